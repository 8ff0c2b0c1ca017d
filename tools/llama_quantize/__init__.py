"""Compares our quantisation with llama.cpp's own ``llama-quantize``, built from the source of the engine's wheel."""
