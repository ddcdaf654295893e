"""The environment of commands: an allow-list, so that no key of the person's shell gets inside. Knows no secret."""

import os
from collections.abc import Iterable, Mapping

from ml_intern.sandbox.credentials import has_credentials

LOCALE = (
    "LANG", "LANGUAGE", "LC_ADDRESS", "LC_ALL", "LC_COLLATE", "LC_CTYPE", "LC_IDENTIFICATION", "LC_MEASUREMENT",
    "LC_MESSAGES", "LC_MONETARY", "LC_NAME", "LC_NUMERIC", "LC_PAPER", "LC_TELEPHONE", "LC_TIME", "TZ",
)  # fmt: skip
CERTIFICATES = (
    "AWS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", "HTTPLIB2_CA_CERTS",
    "NIX_SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_DIR", "SSL_CERT_FILE",
)  # fmt: skip
ACCELERATORS = (
    "CUBLAS_WORKSPACE_CONFIG", "CUDA_DEVICE_ORDER", "CUDA_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL",
    "HIP_VISIBLE_DEVICES", "HSA_OVERRIDE_GFX_VERSION", "JAX_PLATFORMS", "LD_LIBRARY_PATH", "MKL_NUM_THREADS",
    "NCCL_IB_DISABLE", "NCCL_P2P_DISABLE", "NCCL_SOCKET_IFNAME", "NUMEXPR_MAX_THREADS", "NUMEXPR_NUM_THREADS",
    "NVIDIA_DRIVER_CAPABILITIES", "NVIDIA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS",
    "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF",
    "ROCR_VISIBLE_DEVICES", "TF_FORCE_GPU_ALLOW_GROWTH", "VECLIB_MAXIMUM_THREADS", "XLA_PYTHON_CLIENT_MEM_FRACTION",
    "XLA_PYTHON_CLIENT_PREALLOCATE",
)  # fmt: skip
INDEXES = (
    "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_INDEX_URL", "PIP_NO_INDEX", "UV_DEFAULT_INDEX", "UV_EXTRA_INDEX_URL",
    "UV_FIND_LINKS", "UV_INDEX", "UV_INDEX_STRATEGY", "UV_INDEX_URL",
)  # fmt: skip
FIXED: Mapping[str, str] = {
    "COLUMNS": "120",
    "DEBIAN_FRONTEND": "noninteractive",
    "GIT_PAGER": "cat",
    "GIT_TERMINAL_PROMPT": "0",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    # Plots are saved, not shown: there is no screen inside.
    "MPLBACKEND": "Agg",
    "NO_COLOR": "1",
    "PAGER": "cat",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_NO_INPUT": "1",
    "PYTHONUNBUFFERED": "1",
    "SHELL": "/bin/sh",
    "TERM": "dumb",
    "TMPDIR": "/tmp",
    # PyTorch asks for a user's name, which an unlisted uid does not have.
    "LOGNAME": "ml-intern",
    "USER": "ml-intern",
}


def inside(environ: Mapping[str, str], home: str, path_entries: Iterable[str]) -> dict[str, str]:
    """The complete environment of a command, from the person's: what the lists name, HOME and PATH; nothing else.

    Index settings pass only where no URL in them holds credentials.
    """
    passed = {name: environ[name] for name in (*LOCALE, *CERTIFICATES, *ACCELERATORS) if name in environ}
    passed.setdefault("LANG", "C.UTF-8")
    settings = {name: environ[name] for name in INDEXES if name in environ and not has_credentials(environ[name])}
    return {**passed, **settings, **FIXED, "HOME": home, "PATH": ":".join(path_entries)}


def ca_files(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The files and folders of certificates that the passed variables name: commands must be able to read them."""
    named = {part for name in CERTIFICATES for part in environ.get(name, "").split(":") if os.path.isabs(part)}
    return tuple(sorted(path for path in named if os.path.exists(path)))
