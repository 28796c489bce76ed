/* The interpreter of tests/warm.py: asks the server for a process, and ends as that one does. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;
static int pid;

static void pass_on(int number) { kill(pid, number); }

static int is_ours(int n_words, char **words)
{
    size_t size = strlen(words[0]);
    if (getenv(PLAIN) || (getenv(PLAIN_JOBS) && getenv("SLURM_JOB_ID")))
        return 0;
    if (size > 3 && strcmp(words[0] + size - 3, ".py") == 0)
        return 1;
    return n_words > 1 && strcmp(words[0], "-m") == 0
           && (strcmp(words[1], "snakemake") == 0 || strcmp(words[1], "tomopipe") == 0);
}

static void send_whole(int server, const char *bytes, size_t size)
{
    for (ssize_t n; size > 0; bytes += n, size -= n)
        if ((n = send(server, bytes, size, MSG_NOSIGNAL)) < 0)
            exit(1);
}

/* Send the size of a request with the standard streams, and then the request. */
static void ask(int server, const char *request, size_t size)
{
    char head[13], room[CMSG_SPACE(3 * sizeof(int))] = {0};
    int streams[3] = {0, 1, 2};
    snprintf(head, sizeof head, "%12zu", size);
    struct iovec part = {head, 12};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = room,
                             .msg_controllen = sizeof room};
    struct cmsghdr *control = CMSG_FIRSTHDR(&message);
    control->cmsg_level = SOL_SOCKET;
    control->cmsg_type = SCM_RIGHTS;
    control->cmsg_len = CMSG_LEN(sizeof streams);
    memcpy(CMSG_DATA(control), streams, sizeof streams);
    if (sendmsg(server, &message, MSG_NOSIGNAL) != 12)
        exit(1);
    send_whole(server, request, size);
}

int main(int argc, char **argv)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = ADDRESS};
    int server = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (argc < 2 || !is_ours(argc - 1, argv + 1)
        || connect(server, (struct sockaddr *)&address, sizeof address) != 0) {
        argv[0] = PYTHON;
        execv(PYTHON, argv);
        exit(127);
    }
    char *request, *folder = getcwd(NULL, 0);
    size_t size;
    int umask_ = umask(0), status;
    FILE *text = open_memstream(&request, &size);
    fprintf(text, "%s%c%d%c%d", folder, 0, umask_, 0, argc - 1);
    for (char **word = argv + 1; *word; word++)
        fprintf(text, "%c%s", 0, *word);
    for (char **variable = environ; *variable; variable++)
        fprintf(text, "%c%s", 0, *variable);
    fclose(text);
    umask(umask_);
    ask(server, request, size);
    FILE *answers = fdopen(server, "r");
    if (fscanf(answers, "%d", &pid) != 1)
        exit(1);
    int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1};
    for (int i = 0; i < 4; i++) {
        struct sigaction before, after = {.sa_handler = pass_on, .sa_flags = SA_RESTART};
        sigaction(numbers[i], NULL, &before);
        if (before.sa_handler != SIG_IGN)
            sigaction(numbers[i], &after, NULL);
    }
    if (fscanf(answers, "%d", &status) != 1)
        exit(1);
    if (WIFSIGNALED(status)) {
        signal(WTERMSIG(status), SIG_DFL);
        kill(getpid(), WTERMSIG(status));
    }
    _exit(WEXITSTATUS(status));
}
