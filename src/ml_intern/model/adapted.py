"""The providers that pydantic-ai's model layer speaks to for us, as plain rows: importing them costs nothing.

https://pydantic.dev/docs/ai/models/overview/; `kind` is the name that pydantic_ai.models.infer_model has for one.
"""

from dataclasses import dataclass
from importlib.util import find_spec

from ml_intern.base.errors import BadSettings

INSTALL = "pip install 'ml-intern[providers]'"


@dataclass(frozen=True, slots=True)
class Adapted:
    """One row. `base_url` is where it is asked where nothing else is said; empty: the account decides, or
    `base_variables` say. `takes_key` and `takes_base` are what its class calls them; empty: it takes none, or a client
    made with it. `prices` is its name in the price file. `keyless`: which credentials of another kind do.
    """

    id: str
    kind: str
    title: str
    keys: tuple[str, ...] = ()
    base_url: str = ""
    base_variables: tuple[str, ...] = ()
    prices: str = ""
    takes_key: str = "api_key"
    takes_base: str = "base_url"
    keyless: str = ""
    client: str = "openai"
    """The package that it asks with."""


_AWS = "the usual AWS credentials: `aws configure`, AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"

ADAPTED = {
    row.id: row
    for row in (
        Adapted(
            "google",
            "google",
            "Google",
            ("GOOGLE_API_KEY", "GEMINI_API_KEY"),
            "https://generativelanguage.googleapis.com",
            prices="google",
            client="google.genai",
        ),
        Adapted(
            "google-vertex",
            "google-cloud",
            "Google Cloud",
            prices="google",
            takes_key="",
            keyless="`gcloud auth application-default login`, and GOOGLE_CLOUD_PROJECT",
            client="google.genai",
        ),
        Adapted(
            "bedrock",
            "bedrock",
            "Bedrock",
            ("AWS_BEARER_TOKEN_BEDROCK",),
            prices="aws",
            keyless=_AWS,
            client="boto3",
        ),
        Adapted(
            "bedrock-mantle",
            "bedrock-mantle",
            "Bedrock",
            ("AWS_BEARER_TOKEN_BEDROCK",),
            keyless=_AWS,
            client="botocore",
        ),
        Adapted(
            "mistral",
            "mistral",
            "Mistral",
            ("MISTRAL_API_KEY",),
            "https://api.mistral.ai",
            prices="mistral",
            client="mistralai",
        ),
        Adapted(
            "cohere",
            "cohere",
            "Cohere",
            ("CO_API_KEY", "COHERE_API_KEY"),
            "https://api.cohere.com",
            ("CO_BASE_URL",),
            prices="cohere",
            takes_base="",
            client="cohere",
        ),
        Adapted(
            "azure",
            "azure",
            "Azure",
            ("AZURE_OPENAI_API_KEY",),
            base_variables=("AZURE_OPENAI_ENDPOINT",),
            prices="azure",
            takes_base="azure_endpoint",
        ),
        Adapted(
            "azure-responses",
            "azure-responses",
            "Azure",
            ("AZURE_OPENAI_API_KEY",),
            base_variables=("AZURE_OPENAI_ENDPOINT",),
            prices="azure",
            takes_base="azure_endpoint",
        ),
        Adapted(
            "openai-responses",
            "openai-responses",
            "OpenAI",
            ("OPENAI_API_KEY",),
            "https://api.openai.com/v1",
            ("OPENAI_BASE_URL",),
            prices="openai",
        ),
        Adapted(
            "github-copilot",
            "github-copilot",
            "GitHub Copilot",
            ("GITHUB_COPILOT_API_KEY", "GITHUB_COPILOT_API_TOKEN", "COPILOT_GITHUB_TOKEN"),
            "https://api.githubcopilot.com",
            ("GITHUB_COPILOT_BASE_URL", "COPILOT_API_URL", "GITHUB_COPILOT_API_BASE"),
        ),
        Adapted("nebius", "nebius", "Nebius", ("NEBIUS_API_KEY",), "https://api.studio.nebius.com/v1", takes_base=""),
        Adapted(
            "ovhcloud",
            "ovhcloud",
            "OVHcloud",
            ("OVHCLOUD_API_KEY",),
            "https://oai.endpoints.kepler.ai.cloud.ovh.net/v1",
            prices="ovhcloud",
            takes_base="",
        ),
        Adapted(
            "sambanova",
            "sambanova",
            "SambaNova",
            ("SAMBANOVA_API_KEY",),
            "https://api.sambanova.ai/v1",
            ("SAMBANOVA_BASE_URL",),
        ),
        Adapted(
            "alibaba",
            "alibaba",
            "Alibaba",
            ("ALIBABA_API_KEY", "DASHSCOPE_API_KEY"),
            "https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
        ),
        Adapted(
            "vercel",
            "vercel",
            "Vercel",
            ("VERCEL_AI_GATEWAY_API_KEY", "VERCEL_OIDC_TOKEN"),
            "https://ai-gateway.vercel.sh/v1",
            takes_base="",
        ),
        Adapted(
            "heroku",
            "heroku",
            "Heroku",
            ("HEROKU_INFERENCE_KEY",),
            "https://us.inference.heroku.com",
            ("HEROKU_INFERENCE_URL",),
        ),
        Adapted(
            "litellm",
            "litellm",
            "LiteLLM",
            ("LITELLM_API_KEY",),
            base_variables=("LITELLM_BASE_URL", "LITELLM_PROXY_API_BASE"),
            takes_base="api_base",
        ),
        Adapted("zai", "zai", "Z.AI", ("ZAI_API_KEY",), "https://api.z.ai/api/paas/v4", prices="zai"),
        Adapted(
            "crusoe",
            "crusoe",
            "Crusoe",
            ("CRUSOE_API_KEY",),
            "https://api.inference.crusoecloud.com/v1",
            takes_base="",
        ),
        Adapted(
            "snowflake-cortex", "snowflake", "Snowflake", ("SNOWFLAKE_TOKEN",), takes_key="token", takes_base="base_url"
        ),
        Adapted("meta", "meta", "Meta", ("META_API_KEY",), "https://api.meta.ai/v1", prices="meta", takes_base=""),
    )
}


def require_installed(provider: str) -> None:
    """Make sure that what asks `provider` is installed. Imports nothing heavy.

    Raises:
        BadSettings: it is not; the remedy is the command.
    """
    row = ADAPTED[provider]
    for package in ("pydantic_ai", row.client):
        if not _is_there(package):
            what = f"{row.title} is asked through the extra [providers], which is not installed (no {package})."
            raise BadSettings(what, f"Run `{INSTALL}`, or choose another model with --model.")


def _is_there(package: str) -> bool:
    parent, dot, _ = package.rpartition(".")
    return (not dot or _is_there(parent)) and find_spec(package) is not None
