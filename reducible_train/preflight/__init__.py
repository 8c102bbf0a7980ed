"""What can be known before anything is trained, cut or written, and is told then.

Pure checks of settings, paths, data and models: each refuses, and changes nothing. `fit`,
`factorize`, `finetune` and `save_model` ask them; no check is anywhere else.
"""
