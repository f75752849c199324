# syntax=docker/dockerfile:1
# One image for every pod of Ray: head, workers, submitter, and the job that builds shards.
#
#   docker build --tag REGISTRY/gmvae-drit:0.1.0-ray2.60.0-cuda .              # PyPI's torch brings CUDA with it
#   docker build --tag REGISTRY/gmvae-drit:0.1.0-ray2.60.0-cpu --target cpu .  # a quarter of the size
#
# Everything is a wheel whose version stands in constraints.txt, so there is no compiler here (train.compile needs one:
# add gcc in an image of your own), and no pip in what runs. Packages go to /usr/local, where a login shell finds them.
# For a build that cannot change, give the base by digest: --build-arg PYTHON_IMAGE=python@sha256:…
ARG PYTHON_IMAGE=python:3.11.14-slim-bookworm

FROM ${PYTHON_IMAGE} AS tools
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /source
COPY pyproject.toml constraints.txt ./
# What the project needs, without the project: a change of code does not install torch again. `demo` has the digits.
RUN python -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
print(*project['dependencies'], *project['optional-dependencies']['demo'], sep='\n')" > requirements.txt

# --ignore-installed: what the base image has of its own stays behind in it, and would be missed.
FROM tools AS packages-cuda
RUN pip install --root=/packages --ignore-installed --only-binary=:all: \
        --constraint=constraints.txt --requirement=requirements.txt

FROM tools AS packages-cpu
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN pip install --root=/packages --ignore-installed --only-binary=:all: --extra-index-url="${TORCH_INDEX}" \
        --constraint=constraints.txt --requirement=requirements.txt

FROM tools AS project
RUN pip install --constraint=constraints.txt setuptools
COPY README.md LICENSE ./
COPY gmvae_drit gmvae_drit
COPY data_shards data_shards
COPY cluster cluster
COPY tune tune
RUN pip install --root=/packages --no-deps --no-build-isolation .

FROM ${PYTHON_IMAGE} AS runtime
RUN pip uninstall --yes setuptools wheel pip \
    && groupadd --gid 1000 gmvae \
    && useradd --uid 1000 --gid 1000 --create-home --shell /bin/bash gmvae
# Root is read-only in the pods: caches go to /tmp, and no bytecode is written.
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MPLCONFIGDIR=/tmp/matplotlib \
    RAY_USAGE_STATS_ENABLED=0
WORKDIR /home/gmvae
# Kubernetes has probes of its own; this is for docker run.
HEALTHCHECK --interval=60s --timeout=30s CMD ["python", "-m", "cluster", "--help"]
CMD ["python", "-m", "cluster", "--help"]

FROM runtime AS cpu
COPY --from=packages-cpu /packages/ /
COPY --from=project /packages/ /
USER 1000:1000
RUN python -m cluster --help && python -m tune --help && python -m data_shards --help && ray --version

FROM runtime AS cuda
# What the driver of the node lends to the container. Which GPUs it sees is left to Kubernetes.
ENV NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=packages-cuda /packages/ /
COPY --from=project /packages/ /
USER 1000:1000
RUN python -m cluster --help && python -m tune --help && python -m data_shards --help && ray --version
