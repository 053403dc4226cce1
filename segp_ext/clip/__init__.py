"""CLIP models: loading, towers, adapters, and the backbone that the method works with.

- `backbone`: `Backbone`, which holds the parts together.
- `preprocessing`: from images to pixels; `encoders`: passes through the towers.
- `base_weights`: the weights without the adapter; `adapter`: the LoRA adapter.
- `towers`: open_clip's vision and text towers behind one interface; `compiled`: their passes under `torch.compile`.
- `lora_targets`: which layers an adapter goes on; `adapter_layout`: the adapter's tensors as PEFT saves them.
- `pretrained`: `load_clip`; `model_names`: names of models and weights; `building`: open_clip's models and tokenizers.
- `description`: configurations from elsewhere; `hub`: a hub that does not answer.
- `weights_file`: files of weights; `torchscript_archive`: files in TorchScript's format.
- `weight_names`: names of tensors from elsewhere; `own_files`: a backbone's files in a learner's folder.
- `wording`: how the text encoder reads classes, which may have several prompts.
- `glyph`: the small built-in model.
"""
