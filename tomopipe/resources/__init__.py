"""What a job takes: cores, memory, GPU and time (`jobs`), its arrays (`memory`), disk (`disk`)."""
