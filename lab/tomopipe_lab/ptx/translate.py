"""PTX, the assembler of GPUs, translated to C++ for the machine of `machine.hpp`.

Only the instructions that NVIDIA's compiler makes of tomopipe's kernels are here; any other one is
an error that names it. Registers hold bits; each instruction names the type by which it reads them.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

_MACHINE = Path(__file__).with_name("machine.hpp")
_TYPES = {
    "pred": "bool", "f32": "float", "f64": "double",
    **{f"{kind}{n}": f"uint{n}_t" for kind in "bu" for n in (8, 16, 32, 64)},
    **{f"s{n}": f"int{n}_t" for n in (8, 16, 32, 64)},
}  # fmt: skip
_WIDE = {"s16": "s32", "u16": "u32", "s32": "s64", "u32": "u64"}
_SPECIAL = {
    "tid": "thread_index",
    "ctaid": "block_index",
    "ntid": "n_threads",
    "nctaid": "n_blocks",
}
# signs of comparisons; those that end with u are true for NaN, too
_COMPARISONS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_SIMPLE = {  # that have the same name in machine.hpp, by their number of operands
    **dict.fromkeys(("add", "sub", "mul", "div", "rem", "max", "min", "and", "or", "xor"), 2),
    **dict.fromkeys(("neg", "abs", "not"), 1),
    **dict.fromkeys(("fma", "mad"), 3),
}
_ENTRY = re.compile(r"\.visible \.entry (\w+)\(([^)]*)\)[^{]*\{(.*?)\n\}", re.DOTALL)


class _Instruction(NamedTuple):
    text: str
    name: str  # add of add.ftz.f32
    modifiers: list[str]  # ftz, f32
    operands: list[str]

    @property
    def type(self) -> str:
        return self.modifiers[-1]

    @property
    def ftz(self) -> str:
        return "true" if "ftz" in self.modifiers else "false"


def kernels_of(ptx: str) -> dict[str, list[str]]:
    """Return the names of the kernels of a program, and the types of their parameters."""
    return {
        name: re.findall(r"\.param (?:\.align \d+ )?\.(\w+)", parameters)
        for name, parameters, _ in _ENTRY.findall(ptx)
    }


def translated(ptx: str) -> str:
    """Return C++ with a function `run_<kernel>` for each kernel of a program."""
    ptx = re.sub(r"//.*", "", ptx)
    shared = re.findall(r"\.extern \.shared [^;]*? (\w+)\[\]", ptx)
    kernels = [_kernel(name, given, body, shared) for name, given, body in _ENTRY.findall(ptx)]
    return "\n".join([_MACHINE.read_text(encoding="utf-8"), *kernels])


def _kernel(name: str, parameters: str, body: str, shared: list[str]) -> str:
    numbers = {text: n for n, text in enumerate(re.findall(r"\w+_param_\d+", parameters))}
    registers = [
        f"{prefix}{n}"
        for prefix, count in re.findall(r"\.reg \.\w+\s+%(\w+)<(\d+)>;", body)
        for n in range(int(count))
    ]
    body = re.sub(r"\.(?:reg|pragma)[^;]*;", "", body)
    lines = [f"static void {name}_kernel(void** values) {{"]
    lines += [f"Bits {register} = 0;" for register in registers]
    for statement in re.findall(r"\$\w+:|[^;:]+;", body):
        text = " ".join(statement.split())
        if text.endswith(":"):
            lines.append(f"{_label(text[:-1])}:;")
        else:
            lines.append(_statement(text.removesuffix(";"), numbers, shared))
    lines.append("}")
    lines.append(
        f'extern "C" const char* run_{name}(Index blocks, Index threads, size_t n_shared, '
        "unsigned seed, void** values, int n, const uint64_t* firsts, const uint64_t* sizes) "
        f"{{ return run_kernel({name}_kernel, blocks, threads, n_shared, seed, values, n, firsts, "
        "sizes); }"
    )
    return "\n".join(lines)


def _statement(text: str, numbers: dict[str, int], shared: list[str]) -> str:
    guard, instruction = "", text
    if match := re.match(r"@(!?)%(p\d+) ", text):
        guard, instruction = f"if ({match[1]}{match[2]}) ", text[match.end() :]
    word, _, rest = instruction.partition(" ")
    name, *modifiers = word.split(".")
    operands = re.findall(r"\{[^}]*\}|\[[^\]]*\]|[^,\s]+", rest)
    parsed = _Instruction(text, name, modifiers, operands)

    def bits(operand: str) -> str:
        return _bits(operand, shared)

    if name == "ld" and modifiers[0] == "param":
        number, type_ = numbers[operands[1].strip("[]")], _TYPES[parsed.type]
        code = f"{bits(operands[0])} = put(load<{type_}>((char*)values[{number}]));"
    elif name in ("ld", "st", "atom", "red"):
        code = f'instruction = "{text}"; {_memory(parsed, bits)}'
    else:
        code = _calculation(parsed, bits)
    return f"{guard}{{ {code} }}"


def _label(text: str) -> str:
    return text.replace("$", "")


def _bits(operand: str, shared: list[str]) -> str:
    """Return the expression for the bits of an operand."""
    if match := re.fullmatch(r"%(n?(?:ct)?(?:a)?(?:t)?id)\.([xyz])", operand):
        return f"(Bits){_SPECIAL[match[1]]}.{match[2]}"
    if match := re.fullmatch(r"%([a-z]+\d+)", operand):
        return match[1]
    if match := re.fullmatch(r"0[fd]([0-9A-Fa-f]+)", operand):
        return f"(Bits)0x{match[1]}ull"
    if re.fullmatch(r"-?\d+", operand):
        return f"(Bits)({operand}ll)"
    if operand in shared:
        return "(Bits)0"  # shared memory has addresses of its own
    raise NotImplementedError(f"operand {operand}")


def _value(bits: str, type_: str) -> str:
    return f"get<{_TYPES[type_]}>({bits})"


def _list(operand: str) -> list[str]:
    return [each.strip() for each in operand.strip("{}").split(",")]


def _memory(of: _Instruction, bits: Callable[[str], str]) -> str:
    space = next((each for each in of.modifiers if each in ("global", "shared")), None)
    target, others = (of.operands[1], of.operands) if of.name in ("ld", "atom") else (
        of.operands[0], of.operands)  # fmt: skip
    match = re.fullmatch(r"\[([^+\]]+)(?:\+(-?\d+))?\]", target)
    if space is None or match is None:
        raise NotImplementedError(of.text)
    type_, address = _TYPES[of.type], f"{bits(match[1])} + ({match[2] or 0}ll)"
    if of.name in ("atom", "red"):
        if "add" not in of.modifiers or space != "global":
            raise NotImplementedError(of.text)
        added = f"add_at({space}_memory({address}, sizeof({type_}), ATOMIC), "
        added += f"{_value(bits(others[-1]), of.type)})"
        return f"{bits(others[0])} = put({added});" if of.name == "atom" else f"{added};"
    registers = _list(others[0] if of.name == "ld" else others[1])
    kind = "READ" if of.name == "ld" else "WRITE"
    lines = [f"char* at = {space}_memory({address}, {len(registers)} * sizeof({type_}), {kind});"]
    for n, register in enumerate(registers):
        place = f"at + {n} * sizeof({type_})"
        if of.name == "ld":
            lines.append(f"{bits(register)} = put(load<{type_}>({place}));")
        else:
            lines.append(f"store<{type_}>({place}, {_value(bits(register), of.type)});")
    return " ".join(lines)


def _calculation(of: _Instruction, bits: Callable[[str], str]) -> str:
    """Return what an instruction without memory does."""
    operands = of.operands
    if of.name == "ret":
        return "return;"
    if of.name == "bra":
        return f"goto {_label(operands[0])};"
    if of.name in ("bar", "barrier"):
        return "wait_at_barrier();"
    if of.name == "mov" and "{" in operands[1]:
        low, high = map(bits, _list(operands[1]))
        return f"{bits(operands[0])} = {_value(low, 'u32')} | (Bits){_value(high, 'u32')} << 32;"
    if of.name == "mov" and "{" in operands[0]:
        halves = zip(_list(operands[0]), (0, 32), strict=True)
        source = bits(operands[1])
        return " ".join(
            f"{bits(half)} = (uint32_t)({source} >> {n});" for half, n in halves if half != "_"
        )
    return f"{bits(operands[0])} = {_result(of, [bits(each) for each in operands[1:]])};"


def _result(of: _Instruction, given: list[str]) -> str:
    """Return the expression for the bits that an instruction puts into its first operand."""
    type_ = of.type
    if of.name in ("mov", "cvta"):
        return given[0]
    if of.name == "cvt":
        return _conversion(of, given[0])
    if of.name == "setp":
        return _comparison(of, given)
    if of.name == "selp":
        return f"({given[2]} ? {given[0]} : {given[1]})"
    if of.name in ("shl", "shr"):
        amount = _value(given[1], "u32")
        return f"put(op_{of.name}<{_TYPES[type_]}, false>({_value(given[0], type_)}, {amount}))"
    if of.name not in _SIMPLE or {"hi", "sat", "cc"} & {*of.modifiers}:
        raise NotImplementedError(of.text)
    values = [_value(each, type_) for each in given[: _SIMPLE[of.name]]]
    if "wide" in of.modifiers:
        wide = _TYPES[_WIDE[type_]]
        values = [f"({wide}){value}" for value in values[:2]] + [
            _value(each, _WIDE[type_]) for each in given[2:]
        ]
        type_ = _WIDE[type_]
    return f"put(op_{of.name}<{_TYPES[type_]}, {of.ftz}>({', '.join(values)}))"


def _conversion(of: _Instruction, given: str) -> str:
    to, source = of.modifiers[-2:]
    if (source[0] == "f" and to[0] != "f") or {"sat", "rz", "rm", "rp"} & {*of.modifiers}:
        raise NotImplementedError(of.text)
    value = f"flushed<{of.ftz}>({_value(given, source)})"
    return f"put(flushed<{of.ftz}>(({_TYPES[to]}){value}))"


def _comparison(of: _Instruction, given: list[str]) -> str:
    name, type_ = of.modifiers[0], of.type
    a, b = (f"flushed<{of.ftz}>({_value(each, type_)})" for each in given)
    if len(of.modifiers) > 3 or name not in {*_COMPARISONS, *(f"{n}u" for n in _COMPARISONS)}:
        raise NotImplementedError(of.text)
    compared = f"{a} {_COMPARISONS[name[:2]]} {b}"
    if type_[0] == "f":
        unordered = f"unordered({a}, {b})"
        compared = f"{unordered} || {compared}" if name[2:] else f"!{unordered} && {compared}"
    return f"(Bits)({compared})"
