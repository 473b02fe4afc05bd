"""Worker for Hugging Face Accelerate (transformers + accelerate, a device map with offloading). A candidate:

    {"gpu_weights": "12GiB", "batch": B, "pinned": false}

`gpu_weights` is what `max_memory` grants the GPU for weights; the rest lies in host memory and is copied to the GPU
when a layer runs. `pinned` puts that rest into page-locked memory, which Accelerate does not do by itself.
"""
import importlib.metadata

import torch
from accelerate import dispatch_model, infer_auto_device_map, init_empty_weights
from transformers import AutoConfig, OPTForCausalLM

import hf_generation
import worker


class Accelerate:
    def __init__(self, job):
        self.job = job
        self.version = (f"{importlib.metadata.version('accelerate')}, "
                        f"transformers {importlib.metadata.version('transformers')}")
        self.random = worker.RandomWeights()
        self.arena = None
        self.model = self.key = None
        self.device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")

    def rows(self, candidate):
        return candidate["batch"]

    def prepare(self, candidate):
        key = (candidate["gpu_weights"], candidate.get("pinned", False))
        if self.key == key:
            return
        self.forget()
        self.arena = worker.HostArena(pinned=key[1])
        config = AutoConfig.from_pretrained(self.job.model_folder)
        with init_empty_weights():
            model = OPTForCausalLM._from_config(config, dtype=torch.float16)
        model.tie_weights()
        device_map = infer_auto_device_map(
            model, max_memory={0: key[0], "cpu": "1000GiB"}, no_split_module_classes=["OPTDecoderLayer"],
            dtype=torch.float16)
        print("device map:", device_map)
        if set(device_map.values()) == {"cpu"}:
            raise ValueError(f"{key[0]} are too little for any layer: Accelerate would compute on the CPU")
        self._make_weights(model, device_map)
        model.tie_weights()
        model.eval()
        if self.device.type == "cuda":
            model = dispatch_model(model, device_map, skip_keys=model._skip_keys_device_placement)
        self.model = model
        self.random.close()
        self.key = key

    def forget(self):
        self.model = self.key = self.arena = None
        self.random.close()

    def generate(self, candidate, steps):
        hf_generation.generate(self.model, self.job, candidate["batch"], steps, self.device,
                               candidate.get("warm_up", 2))
        worker.free_device_memory()

    def _make_weights(self, model, device_map):
        for module_name, module in model.named_modules():
            for name, parameter in list(module._parameters.items()):
                if parameter is None or (module_name == "lm_head" and name == "weight"):  # tied to the embedding
                    continue
                place = self._place(f"{module_name}.{name}", device_map)
                if place == "cpu" or self.device.type == "cpu":
                    data = self.arena.empty(parameter.shape, torch.float16)
                else:
                    data = torch.empty(parameter.shape, dtype=torch.float16, device=self.device)
                is_gain = "layer_norm" in module_name and name == "weight"
                self.random.normal(data, 1.0 if is_gain else 0.0)
                module._parameters[name] = torch.nn.Parameter(data, requires_grad=False)

    @staticmethod
    def _place(name, device_map):
        while name not in device_map and name:
            name = name.rpartition(".")[0]
        return device_map[name]


if __name__ == "__main__":
    worker.serve(Accelerate)
