"""Generation with a Hugging Face model, timed token by token; for the workers that wrap such a model."""
import torch
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

import worker


class TimedSteps(StoppingCriteria):
    """Called by generate() after each token; ends the job when its time is over."""

    def __init__(self, steps):
        self.steps = steps

    def __call__(self, input_ids, scores, **unused):
        self.steps.mark()
        return torch.full((input_ids.shape[0],), self.steps.over(), dtype=torch.bool, device=input_ids.device)


def configuration(tokens):
    """Greedy, exactly `tokens` tokens: no token ends a row."""
    return GenerationConfig(max_new_tokens=tokens, do_sample=False, num_beams=1, use_cache=True, eos_token_id=None,
                            bos_token_id=2, pad_token_id=1)


def generate(model, job, rows, steps, device, warm_up_tokens=2):
    prompts = worker.random_prompts(rows, job.prompt, job.vocabulary).to(device)
    model.generation_config = configuration(steps.tokens)
    warm_up = prompts[:, :min(32, job.prompt)]
    model.generate(warm_up, attention_mask=torch.ones_like(warm_up), generation_config=configuration(warm_up_tokens))
    steps.begin()
    ids = model.generate(prompts, attention_mask=torch.ones_like(prompts),
                         generation_config=configuration(steps.tokens),
                         stopping_criteria=StoppingCriteriaList([TimedSteps(steps)]))
    assert ids.shape == (rows, job.prompt + len(steps.seconds)), ids.shape
