"""What a GPU's memory and arithmetic allow, on paper: a row for each pass over 16 slices.

python lab/benchmarks/gpu_roofline.py --n 2048 --memory 4.8 --flops 67 --bus 55
"""

import argparse

import numpy as np
from tomopipe_lab.bench.gpu import Copies
from tomopipe_lab.bench.gpu_passes import passes_of

from tomopipe.recon.plan import make_plan

N_SLICES = 16


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=2048, help="detector columns and rows")
    parser.add_argument("--memory", type=float, default=4.8, help="TB/s")
    parser.add_argument("--flops", type=float, default=67.0, help="TFLOP/s of float32")
    parser.add_argument("--bus", type=float, default=55.0, help="GB/s each way")
    parser.add_argument("--share", type=float, default=0.8, help="of the peaks that is reached")
    args = parser.parse_args()
    n_angles = 3 * args.n // 2
    plan = make_plan(np.linspace(0, np.pi, n_angles, endpoint=False), args.n)
    passes = passes_of(plan, N_SLICES)
    print(
        "| pass | launches | GB | Gflop | ms, memory | ms, arithmetic |\n|---|---|---|---|---|---|"
    )
    all_ms = 0.0
    for kernel in passes:
        memory_ms = 1e-9 * kernel.n_bytes / (args.share * args.memory)
        flop_ms = 1e-9 * kernel.operations / (args.share * args.flops)
        all_ms += max(memory_ms, flop_ms)
        print(
            f"| {kernel.name} | {kernel.launches} | {kernel.n_bytes / 1e9:.2f} | "
            f"{kernel.operations / 1e9:.1f} | {memory_ms:.2f} | {flop_ms:.2f} |"
        )
    print(
        f"| all | {sum(p.launches for p in passes)} | {sum(p.n_bytes for p in passes) / 1e9:.1f} ",
        end="",
    )
    print(f"| {sum(p.operations for p in passes) / 1e9:.1f} | {all_ms:.2f} | |")
    bus = Copies(1e9 * args.bus, 1e9 * args.bus)
    shape = (n_angles, args.n, args.n)
    print(
        f"\nAll {args.n} rows: device {1e-3 * all_ms * args.n / N_SLICES:.2f} s; bus "
        f"{bus.bound_s(*shape):.2f} s to float32, {bus.bound_s(*shape, 2):.2f} s to uint16"
    )


if __name__ == "__main__":
    main()
