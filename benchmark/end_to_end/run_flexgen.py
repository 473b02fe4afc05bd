"""Worker for FlexGen (PyPI `flexgen`). A candidate:

    {"percent": [wg, wc, cg, cc, hg, hc], "gpu_batch_size": B, "num_gpu_batches": K,
     "compress_weight": false, "compress_cache": false, "cpu_cache_compute": false,
     "overlap": true, "sep_layer": true, "pin_weight": true}

FlexGen runs as it is, but for these changes made at run time, none of which costs it speed:
  * its dummy weights are ones; here they are random (4-bit ones: random codes, with scales of the same weights);
  * weights in pinned host memory come from HostArena instead of torch's allocator, which would round each up to a power
    of two and pin small pages;
  * the four relay buffers of its copy threads, 2 GiB of pinned memory each, get the size that the job needs;
  * prompts are random token ids, so that no tokenizer is asked from a hub;
  * its step timer also says when time is over.
"""
import importlib.metadata
import os
import types

import numpy
import torch

import worker

DUMMY = "_DUMMY_"  # FlexGen's name for weights that are made, not read


class Ones:
    """Stands for the array of ones that FlexGen would make, until the tensor that takes it fills itself."""

    def __init__(self, shape, dtype):
        self.shape, self.dtype = shape, dtype


class FlexGen:
    def __init__(self, job):
        import flexgen.flex_opt as flex_opt
        import flexgen.pytorch_backend as backend
        from flexgen.compression import CompressionConfig
        from flexgen.opt_config import OptConfig
        from flexgen.timer import timers
        self.job, self.flex_opt, self.backend, self.timers = job, flex_opt, backend, timers
        self.compression = CompressionConfig
        self.version = importlib.metadata.version("flexgen")
        shape = job.config
        self.config = OptConfig(
            name=job.name, num_hidden_layers=shape["num_hidden_layers"], hidden_size=shape["hidden_size"],
            input_dim=shape["hidden_size"], n_head=shape["num_attention_heads"], ffn_embed_dim=shape["ffn_dim"],
            vocab_size=shape["vocab_size"], max_seq_len=shape["max_position_embeddings"])
        self.arena = worker.HostArena(pinned=True)
        self.random = worker.RandomWeights()
        self.names = []
        self.pins_weights = False
        self.steps = None
        self.model = self.env = self.key = None
        self._change_flexgen()

    def rows(self, candidate):
        return candidate["gpu_batch_size"] * candidate["num_gpu_batches"]

    def policy(self, candidate):
        return self.flex_opt.Policy(
            candidate["gpu_batch_size"], candidate["num_gpu_batches"], *candidate["percent"],
            candidate.get("overlap", True), candidate.get("sep_layer", True), candidate.get("pin_weight", True),
            candidate.get("cpu_cache_compute", False), 1.0,
            candidate.get("compress_weight", False),
            self.compression(num_bits=4, group_size=64, group_dim=0, symmetric=False),
            candidate.get("compress_cache", False),
            self.compression(num_bits=4, group_size=64, group_dim=2, symmetric=False))

    def prepare(self, candidate):
        if candidate == self.key:
            return
        self.forget()
        # A relay buffer (in elements of 2 bytes) holds the new cache of one micro-batch and layer, or a weight on disk.
        needed = candidate["gpu_batch_size"] * (self.job.prompt + self.job.output) * self.config.input_dim
        if sum(candidate["percent"][:2]) < 100:
            needed = max(needed, self.config.vocab_size * self.config.input_dim)
        self.backend.GB = 1 << max(20, (needed - 1).bit_length())
        device, disk = self.backend.TorchDevice, self.backend.TorchDisk
        gpu, cpu = device("cuda:0"), device("cpu")
        store = disk(os.path.join(self.job.scratch, "flexgen"))
        mixed = self.backend.TorchMixedDevice([gpu, cpu, store])
        self.env = self.flex_opt.ExecutionEnv(gpu=gpu, cpu=cpu, disk=store, mixed=mixed)
        self.model = self.flex_opt.OptLM(self.config, self.env, DUMMY, self.policy(candidate))
        self.random.close()
        self.key = dict(candidate)

    def forget(self):
        self.key = self.model = None
        if self.env is not None:
            try:
                self.env.close_copy_threads()
            except Exception as error:  # after a failed job they may be gone
                print("copy threads:", error)
            self.env = None
        self.random.close()
        self.arena.reset()

    def generate(self, candidate, steps):
        prompts = worker.random_prompts(self.rows(candidate), self.job.prompt, self.job.vocabulary).numpy()
        self.model.generate(prompts[:, :min(32, self.job.prompt)], max_new_tokens=1)
        timer = self.timers("generate")
        timer.reset()
        self.steps = steps
        steps.begin()
        try:
            # The whole cache is allocated even when only the first tokens are asked for.
            total = max(self.job.output, steps.tokens)
            ids = self.model.generate(prompts, max_new_tokens=total, cut_gen_len=steps.tokens)
            made = ids[:, self.job.prompt:self.job.prompt + steps.tokens]
            assert made.shape == (self.rows(candidate), steps.tokens)
        except worker.OutOfTime:
            # What is half done cannot be taken up again.
            self.steps = None
            steps.seconds = list(timer.costs)
            self.forget()
            raise
        finally:
            self.steps = None
        steps.seconds = list(timer.costs)

    def _change_flexgen(self):
        backend, flex_opt = self.backend, self.flex_opt

        pretended = types.ModuleType("numpy")
        pretended.__dict__.update(numpy.__dict__)
        pretended.ones = Ones
        flex_opt.np = pretended

        load = backend.TorchTensor.load_from_np

        def load_or_fill(tensor, array):
            if not isinstance(array, Ones):
                load(tensor, array)
            elif tensor.device.device_type == backend.DeviceType.DISK:
                values = torch.empty(tuple(tensor.shape), dtype=tensor.dtype, pin_memory=torch.cuda.is_available())
                self._fill(values)
                load(tensor, values.numpy())
            else:
                self._fill(tensor.data)

        backend.TorchTensor.load_from_np = load_or_fill

        init_weights = flex_opt.init_weight_list

        def init_random_weights(specs, policy, env):
            self.names = [name for shape, _, name in specs if len(shape) == 1]
            self.pins_weights = True
            try:
                return init_weights(specs, policy, env)
            finally:
                self.pins_weights = False

        flex_opt.init_weight_list = init_random_weights

        allocate = backend.TorchDevice.allocate

        def allocate_in_arena(device, shape, dtype, pin_memory=None, name=None):
            on_host = device.device_type == backend.DeviceType.CPU
            if not (self.pins_weights and on_host and pin_memory is not False):
                return allocate(device, shape, dtype, pin_memory=pin_memory, name=name)
            data = self.arena.empty(shape, backend.np_dtype_to_torch_dtype[dtype])
            return backend.TorchTensor.create_from_torch(data, device, name=name)

        backend.TorchDevice.allocate = allocate_in_arena

        timer = self.timers("generate")
        start = timer.start

        def start_in_time(*arguments):
            if self.steps is not None:
                self.steps.check()
            start(*arguments)

        timer.start = start_in_time

    def _fill(self, data):
        if data.dtype == torch.uint8:
            self.random.integers(data, 0, 256)
        elif data.dim() == 1:
            is_gain = self.names.pop(0).endswith("layer_norm.weight")
            self.random.normal(data, 1.0 if is_gain else 0.0)
        elif data.dim() == 3:  # scales of 4-bit weights, groups x (scale, least value) x columns
            self.random.normal(data, -0.045, 0.002)
            scales = torch.empty(data[:, 0].shape, dtype=data.dtype, device=data.device)
            self.random.normal(scales, 166.0, 5.0)
            data[:, 0].copy_(scales)
        else:
            self.random.normal(data)


if __name__ == "__main__":
    worker.serve(FlexGen)
