# The few verbs of this project. `make serve` and `make test` are all that a newcomer needs.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# Judges that cannot live in our environment: LiteLLM, LangChain and `llm` want another openai than ours, the npm package
# wants Node.
LITELLM := .venv-litellm
CLIENTS := .venv-clients
PROXY   := .venv-litellm-proxy
NPM     := tests/acceptance/npm
# What converted models are compared with: transformers, PEFT, SentencePiece and torch, which never are in ours.
FIDELITY := .venv-fidelity
UNLOCKED := torch triton $(addprefix nvidia-,cublas cuda-cupti cuda-nvrtc cuda-runtime cudnn-cu13 cufft cufile curand cusolver \
  cusparse cusparselt-cu13 nccl-cu13 nvjitlink nvshmem-cu13 nvtx) cuda-bindings cuda-pathfinder cuda-toolkit

.DEFAULT_GOAL := help
.PHONY: help setup serve test check crash histories proofs hostile soak fidelity bench docs lock clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

setup: $(VENV)/.serve ## the environment, with what serving needs

serve: setup ## a server with the built-in model; prints its addresses
	@$(BIN)/localmodels serve $(ARGS)

test: $(VENV)/.test $(LITELLM)/.test $(CLIENTS)/.test $(NPM)/node_modules ## everything: style, types, layers, unit, contract, acceptance, docs; 15 to 20 minutes on two cores
	@PYTHON=$(BIN)/python tools/test $(ARGS)

check: $(VENV)/.test ## style, types, layers
	@PYTHON=$(BIN)/python tools/check

crash: $(VENV)/.test ## kills the store at every system call, and cuts its power; minutes (needs strace, root for power cuts)
	@$(BIN)/python -m tools.crash --points 2000 $(ARGS)
	@$(BIN)/python -m tools.crash --points 2000 --errors $(ARGS)
	@$(BIN)/python -m tools.crash --defects --points 6000
	@if [ "$$(id -u)" = 0 ]; then $(BIN)/python -m tools.crash --power --points 220; \
	 else echo "no power is cut: a disk to cut it from needs root"; fi

histories: $(VENV)/.test ## ten thousand random steps of eight clients, with a server that is killed; minutes
	@$(BIN)/python -m tests.histories $(ARGS)

proofs: $(VENV)/.test ## a thousand streams and departures, overload, a stop in the middle; minutes
	@$(BIN)/python -m tests.proofs $(ARGS)

hostile: $(VENV)/.test ## ten thousand hostile requests to a server, and as many to one that asks for keys; minutes
	@$(BIN)/python -m tests.hostile $(ARGS)
	@$(BIN)/python -m tests.hostile --keyed $(ARGS)

soak: $(VENV)/.test ## an hour of everything at 20 visits a second, with faults; what grew meanwhile
	@$(BIN)/python -m tests.soak $(ARGS)

fidelity: $(FIDELITY)/.test ## converted models against transformers, PEFT and SentencePiece; many minutes
	@PYTHONPATH=src:. $(FIDELITY)/bin/python -m tests.fidelity $(ARGS)

bench: $(VENV)/.test $(PROXY)/.bench ## ratios against the bare engine, curl, nginx and LiteLLM, in interleaved runs
	@$(BIN)/python -m benchmarks $(ARGS)

docs: $(VENV)/.test ## writes the generated pages anew
	@$(BIN)/python tools/reference.py

lock: ## resolves the requirements anew (needs uv)
	uv pip compile -q --universal --generate-hashes --no-emit-index-url --python-version 3.11 --no-header \
	  pyproject.toml requirements/build.in -o requirements/serve.txt
	uv pip compile -q --universal --generate-hashes --no-emit-index-url --python-version 3.11 --no-header \
	  pyproject.toml requirements/build.in --group check --group test -c requirements/serve.txt -o requirements/test.txt
	uv pip compile -q --universal --generate-hashes --no-emit-index-url --python-version 3.11 --no-header \
	  requirements/litellm.in -o requirements/litellm.txt
	uv pip compile -q --universal --generate-hashes --no-emit-index-url --python-version 3.11 --no-header \
	  requirements/clients.in -o requirements/clients.txt
	uv pip compile -q --universal --generate-hashes --no-emit-index-url --python-version 3.11 --no-header \
	  requirements/litellm-proxy.in -o requirements/litellm-proxy.txt
	uv pip compile -q --universal --generate-hashes --no-emit-index-url --python-version 3.11 --no-header \
	  $(addprefix --no-emit-package ,$(UNLOCKED)) -c requirements/serve.txt requirements/fidelity.in \
	  -o requirements/fidelity.txt

clean: ## removes the environment
	rm -rf $(VENV) $(LITELLM) $(CLIENTS) $(PROXY) $(FIDELITY) $(NPM)/node_modules

$(VENV)/.serve: requirements/serve.txt pyproject.toml
	@PYTHON=$(PYTHON) VENV=$(VENV) tools/setup requirements/serve.txt
	@touch $@

$(VENV)/.test: requirements/test.txt $(VENV)/.serve
	@PYTHON=$(PYTHON) VENV=$(VENV) tools/setup requirements/test.txt
	@touch $@

$(LITELLM)/.test: requirements/litellm.txt
	@PYTHON=$(PYTHON) VENV=$(LITELLM) tools/setup requirements/litellm.txt alone
	@touch $@

$(CLIENTS)/.test: requirements/clients.txt
	@PYTHON=$(PYTHON) VENV=$(CLIENTS) tools/setup requirements/clients.txt alone
	@touch $@

$(PROXY)/.bench: requirements/litellm-proxy.txt
	@PYTHON=$(PYTHON) VENV=$(PROXY) tools/setup requirements/litellm-proxy.txt alone
	@touch $@

# torch as the machine has it: its lock would bring gigabytes for graphics cards.
$(FIDELITY)/.test: requirements/fidelity.txt
	@PYTHON=$(PYTHON) VENV=$(FIDELITY) tools/setup requirements/fidelity.txt alone
	@$(FIDELITY)/bin/python -m pip install -q --disable-pip-version-check --no-deps torch==2.13.0
	@touch $@

$(NPM)/node_modules: $(NPM)/package-lock.json
	@if ! command -v npm >/dev/null; then echo "npm is not here, its ollama package will not judge; on Debian: apt-get install npm"; \
	 elif npm --prefix $(NPM) ci --no-audit --no-fund --silent; then touch $@; \
	 else echo "npm could not install its ollama package, it will not judge"; fi
