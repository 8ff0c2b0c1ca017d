"""What was uploaded, looked at before it gets a name: an :class:`Inspector` says what it is, or why it is nothing.

A child does the reading: heads of safetensors and GGUF files, tokenizers and configurations are a stranger's, and take
memory and time that the server has better use for.
"""

from localmodels.artifacts.inspection.job import Findings, Job
from localmodels.artifacts.inspection.process import Inspector

__all__ = ["Findings", "Inspector", "Job"]
