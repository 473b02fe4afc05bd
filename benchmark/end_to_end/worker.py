"""What the workers of the peer systems share: the dialogue with the driver, random weights, host memory, timing.

A worker is a process that owns one peer system and one model. The driver (`peers.py`) writes one JSON request per line
to its standard input and reads one JSON answer per line from its standard output; everything else that is printed goes
to standard error. A system is an object with

    prepare(candidate)            load or rearrange the weights; kept when the next candidate needs the same
    generate(candidate, steps)    one job; calls steps.mark() whenever one more token of every row is ready

Needs torch. Runs on a CPU too (`--gpu-memory 0`), for tests.
"""
import argparse
import ctypes
import gc
import json
import mmap
import os
import sys
import threading
import time
import traceback

import torch

MIB = 1 << 20
GIB = 1 << 30


class OutOfTime(Exception):
    """Raised by Steps.mark when the time allowed for the job is over."""


class Steps:
    """Seconds of each step of a job: the first is the prefill, each of the others makes one more token per row."""

    def __init__(self, tokens, seconds_allowed):
        self.tokens = tokens
        self.deadline = time.perf_counter() + seconds_allowed
        self.seconds = []
        self.last = None

    def begin(self):
        synchronize()
        self.last = time.perf_counter()

    def mark(self):
        synchronize()
        now = time.perf_counter()
        self.seconds.append(now - self.last)
        self.last = now

    def over(self):
        return time.perf_counter() > self.deadline

    def check(self):
        if self.over():
            raise OutOfTime


def synchronize():
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def free_device_memory():
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


class HostArena:
    """Host memory on huge pages, optionally registered with CUDA, which tensors are cut from one after another.

    Why not torch's own pinned allocator: it rounds every tensor up to a power of two (a third more memory for OPT-30B)
    and pins 4 KiB pages (0.65 s per GiB). `reset` hands all of it out anew: no earlier tensor may be in use then.
    """

    SEGMENT = 4 * GIB
    ALIGN = 4096

    def __init__(self, pinned, segment_bytes=None):
        self.pinned = pinned and torch.cuda.is_available()
        self.segment_bytes = segment_bytes or (self.SEGMENT if torch.cuda.is_available() else 64 * MIB)
        self.segments = []  # [tensor of bytes, used]
        self.current = 0

    def reset(self):
        self.current = 0
        for segment in self.segments:
            segment[1] = 0

    def empty(self, shape, dtype):
        shape = tuple(shape)
        wanted = max(1, torch.Size(shape).numel()) * torch.empty(0, dtype=dtype).element_size()
        step = (wanted + self.ALIGN - 1) // self.ALIGN * self.ALIGN
        while self.current < len(self.segments):
            memory, used = self.segments[self.current]
            if used + step <= memory.numel():
                self.segments[self.current][1] = used + step
                return memory[used:used + wanted].view(dtype).view(shape)
            self.current += 1
        self.segments.append([self._map(max(step, self.segment_bytes)), 0])
        return self.empty(shape, dtype)

    def _map(self, num_bytes):
        huge = 2 * MIB
        num_bytes = (num_bytes + huge - 1) // huge * huge
        region = mmap.mmap(-1, num_bytes + huge, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        address = ctypes.addressof(ctypes.c_char.from_buffer(region))
        skip = -address % huge
        libc = ctypes.CDLL(None, use_errno=True)
        libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        libc.madvise(address + skip, num_bytes, 14)  # MADV_HUGEPAGE
        # Touch the pages by several threads: the kernel clears them at one thread's speed otherwise.
        threads = []
        part = (num_bytes // 16 + huge - 1) // huge * huge
        for begin in range(0, num_bytes, part):
            size = min(part, num_bytes - begin)
            threads.append(threading.Thread(target=libc.madvise, args=(address + skip + begin, size, 23)))
        for thread in threads:  # MADV_POPULATE_WRITE; where unknown, pages come at first use
            thread.start()
        for thread in threads:
            thread.join()
        memory = torch.frombuffer(region, dtype=torch.uint8)[skip:skip + num_bytes]
        if self.pinned:
            status = torch.cuda.cudart().cudaHostRegister(memory.data_ptr(), num_bytes, 0)
            if int(status) != 0:
                raise MemoryError(f"cudaHostRegister of {num_bytes >> 20} MiB failed: {status}")
        return memory


class RandomWeights:
    """Fills tensors with random values, made on the GPU where there is one and copied from there.

    Every tensor gets memory and values of its own. Uses 128 MiB of GPU and of pinned host memory while alive.
    """

    CHUNK = 32 * MIB  # elements

    def __init__(self, seed=1):
        torch.manual_seed(seed)
        self.cuda = torch.cuda.is_available()
        self.buffers = None
        self.turn = 0

    def close(self):
        synchronize()
        self.buffers = None
        free_device_memory()

    def normal(self, tensor, mean=0.0, deviation=0.02):
        self._fill(tensor, lambda x: x.normal_(mean, deviation))

    def integers(self, tensor, low, high):
        self._fill(tensor, lambda x: x.random_(low, high))

    def _fill(self, tensor, make):
        if not self.cuda or tensor.is_cuda:
            make(tensor)
            return
        if self.buffers is None:
            self.buffers = [(torch.empty(2 * self.CHUNK, dtype=torch.uint8, device="cuda"),
                             torch.empty(2 * self.CHUNK, dtype=torch.uint8, pin_memory=True),
                             torch.cuda.Event()) for _ in range(2)]
        flat = tensor.view(-1)
        chunk = 2 * self.CHUNK // flat.element_size()
        pinned = flat.is_pinned()
        waiting = []  # copies from the staging buffer that are still to be made
        for begin in range(0, flat.numel(), chunk):
            target = flat[begin:begin + chunk]
            made, staging, event = self.buffers[self.turn]
            self.turn = 1 - self.turn
            made = made.view(flat.dtype)[:target.numel()]
            staging = staging.view(flat.dtype)[:target.numel()]
            make(made)
            (target if pinned else staging).copy_(made, non_blocking=True)
            event.record()
            waiting.append((target, staging, event))
            if len(waiting) == 2:
                self._finish(waiting.pop(0), pinned)
        for entry in waiting:
            self._finish(entry, pinned)

    @staticmethod
    def _finish(entry, pinned):
        target, staging, event = entry
        event.synchronize()
        if not pinned:
            target.copy_(staging)


def random_prompts(rows, length, vocabulary, seed=7):
    """rows x length token ids; no special token among them."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(4, vocabulary - 16, (rows, length), generator=generator)


def host_peak_bytes():
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    return 0


def limit_gpu_memory(num_bytes):
    """Caps what torch may allocate. The CUDA context lies outside, as it does with flexgen-dist's --gpu-mem."""
    if torch.cuda.is_available() and num_bytes:
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, num_bytes / total), 0)


def reason(error):
    text = f"{type(error).__name__}: {error}".strip().splitlines()[0]
    if isinstance(error, torch.OutOfMemoryError):
        text = "out of GPU memory"
    return text[:300]


class Job:
    """What all requests share, from the command line."""

    def __init__(self, arguments):
        with open(os.path.join(arguments.model_folder, "config.json")) as file:
            self.config = json.load(file)
        self.model_folder = arguments.model_folder
        self.name = os.path.basename(os.path.normpath(arguments.model_folder))
        self.prompt = arguments.prompt
        self.output = arguments.output
        self.scratch = arguments.scratch
        self.gpu_memory = arguments.gpu_memory
        self.vocabulary = self.config["vocab_size"]


def answer(system, job, request):
    candidate = request["candidate"]
    result = {"status": "failed", "rows": None, "steps": [], "load_seconds": None}
    try:
        began = time.perf_counter()
        system.prepare(candidate)
        synchronize()
        result["load_seconds"] = time.perf_counter() - began
        result["rows"] = system.rows(candidate)
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        steps = Steps(request["output"], request["seconds"] - result["load_seconds"])
        try:
            system.generate(candidate, steps)
        except OutOfTime:
            pass
        result["steps"] = steps.seconds
        if len(steps.seconds) == request["output"]:
            result["status"] = "ok"
        elif steps.seconds:
            result["status"], result["why"] = "cut", f"out of time after {len(steps.seconds)} tokens"
        else:
            result["why"] = "out of time before the first token"
    except Exception as error:  # the driver goes on with the next candidate
        traceback.print_exc()
        result["why"] = reason(error)
        system.forget()
    if torch.cuda.is_available():
        result["peak_gpu_bytes"] = torch.cuda.max_memory_reserved()
    result["peak_host_bytes"] = host_peak_bytes()
    return result


def serve(make_system):
    """The main function of a worker; make_system(job) builds its system."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model-folder", required=True)
    parser.add_argument("--prompt", type=int, required=True)
    parser.add_argument("--output", type=int, required=True)
    parser.add_argument("--gpu-memory", type=int, required=True, help="bytes")
    parser.add_argument("--scratch", required=True)
    job = Job(parser.parse_args())
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # a peer's prints must not mix with the answers
    limit_gpu_memory(job.gpu_memory)
    torch.set_grad_enabled(False)
    system = make_system(job)
    print(json.dumps({"version": system.version, "torch": torch.__version__}), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(system, job, json.loads(line))), file=answers, flush=True)
    answers.close()
    sys.stderr.flush()
    os._exit(0)  # peers leave threads behind that never end
