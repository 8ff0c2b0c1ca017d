"""What converting a folder of weights takes, beside llama.cpp's converter and quantiser."""
