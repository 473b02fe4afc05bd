"""Worker for DeepSpeed ZeRO-Inference (PyPI `deepspeed`): ZeRO stage 3, weights in pinned host memory, fetched layer by
layer. A candidate:

    {"batch": B, "prefetch": 5e8, "live": 1e9, "resident": 1e5}

`prefetch`, `live` and `resident` are elements: stage3_prefetch_bucket_size, stage3_max_live_parameters and
stage3_param_persistence_threshold (smaller weights stay on the GPU). `"offload": false` keeps all weights on the GPU.

One change at run time, which costs DeepSpeed no speed: its pinned memory comes from HostArena, for the reasons given
there.
"""
import importlib.metadata
import os

import torch

os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1",
                  MASTER_PORT=os.environ.get("MASTER_PORT", "29511"))
os.environ.setdefault("NCCL_SOCKET_IFNAME", "lo")

import deepspeed  # noqa: E402  reads the environment
from transformers import AutoConfig, OPTForCausalLM, OPTPreTrainedModel  # noqa: E402
from transformers.integrations import HfDeepSpeedConfig  # noqa: E402

import hf_generation  # noqa: E402
import worker  # noqa: E402


class DeepSpeed:
    def __init__(self, job):
        self.job = job
        self.version = importlib.metadata.version("deepspeed")
        self.arena = worker.HostArena(pinned=True)
        self.engine = self.key = self.hf_config = None
        accelerator = deepspeed.accelerator.get_accelerator()
        self.device = torch.device(accelerator.current_device_name())
        accelerator.pin_memory = self._pin
        deepspeed.init_distributed(dist_backend=accelerator.communication_backend_name())

    def _pin(self, tensor, *_, **__):
        pinned = self.arena.empty(tensor.shape, tensor.dtype)
        pinned.copy_(tensor)
        return pinned

    def rows(self, candidate):
        return candidate["batch"]

    def prepare(self, candidate):
        key = {name: value
               for name, value in candidate.items() if name in ("prefetch", "live", "resident", "offload")}
        if self.key == key:
            return
        self.forget()
        config = AutoConfig.from_pretrained(self.job.model_folder)
        zero = {
            "stage": 3,
            "stage3_prefetch_bucket_size": int(key.get("prefetch", 5e8)),
            "stage3_max_live_parameters": int(key.get("live", 1e9)),
            "stage3_max_reuse_distance": int(key.get("live", 1e9)),
            "stage3_param_persistence_threshold": int(key.get("resident", 1e5)),
        }
        if key.get("offload", True):
            zero["offload_param"] = {"device": "cpu", "pin_memory": True}
        settings = {
            "fp16": {"enabled": True},
            "zero_optimization": zero,
            "train_micro_batch_size_per_gpu": 1,
            "train_batch_size": 1,
            "steps_per_print": 1 << 30,
        }
        self.hf_config = HfDeepSpeedConfig(settings)  # alive while the model is made: transformers asks for it
        torch.manual_seed(1)
        # transformers' own initialisation would index weights that are already partitioned away.
        OPTPreTrainedModel.initialize_weights = lambda model: None
        with deepspeed.zero.Init(config_dict_or_path=settings, dtype=torch.float16):
            # Weights are made by the layers' own random initialisation, on the GPU, each at once moved to its home.
            model = OPTForCausalLM(config)
        engine, *_ = deepspeed.initialize(model=model, config=settings)
        engine.module.eval()
        self.engine, self.key = engine, key

    def forget(self):
        if self.engine is not None:
            try:
                self.engine.destroy()
            except Exception as error:  # after a failed job it may be half gone
                print("engine:", error)
        self.engine = self.key = self.hf_config = None
        worker.free_device_memory()
        self.arena.reset()

    def generate(self, candidate, steps):
        hf_generation.generate(self.engine.module, self.job, candidate["batch"], steps, self.device,
                               candidate.get("warm_up", 2))
        worker.free_device_memory()


if __name__ == "__main__":
    worker.serve(DeepSpeed)
