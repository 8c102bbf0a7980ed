"""A configuration in YAML: everything a training with falling ranks needs, in one file.

```yaml
compression:
  budget: {schedule: ramp, initial: 1.0, final: 0.2, start_epoch: 2, end_epoch: 6}
training:
  epochs: 16
```

Every mistake is found before training starts, and all are shown together, each with its
YAML path, what came, and what to do. Reading a file loads neither Keras nor TensorFlow.
"""

from __future__ import annotations

from reducible_train.config.config import Config, load_config, parse_config
from reducible_train.config.models import TrainingSection
from reducible_train.config.schema import config_schema

__all__ = ["Config", "TrainingSection", "config_schema", "load_config", "parse_config"]
