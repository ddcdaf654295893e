"""smolagents as its guide has it: a calling agent, one tool that runs a command. Run where its package is."""

import subprocess
import sys

from smolagents import OpenAIServerModel, ToolCallingAgent, tool  # pyright: ignore[reportMissingImports]


@tool
def bash(command: str) -> str:
    """Run it.

    Args:
        command: The command line.
    """
    return subprocess.run(["bash", "-c", command], stdout=-1, stderr=-2, text=True, check=False).stdout


url, prompt = sys.argv[1:]
model = OpenAIServerModel(model_id="double", api_base=url, api_key="no-key-is-checked", max_tokens=16_384)
agent = ToolCallingAgent(tools=[bash], model=model, max_steps=2000, stream_outputs=True)
sys.stdout.write(f"{agent.run(prompt)}\n")
