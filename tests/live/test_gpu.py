"""Half a minute of training on the accelerator of this machine, inside the sandbox, through the real command line."""

from pathlib import Path

import pytest

from ml_intern.sandbox import devices
from ml_intern.sandbox.levels import Level, probe
from tests.walks.walk import MODEL, Hearing, Walk, bash, story

TRAIN = """\
# /// script
# requires-python = ">=3.11"
# dependencies = ["torch", "numpy"]
# ///
import time

import torch
from torch.utils.data import DataLoader, TensorDataset

assert torch.cuda.is_available(), "no accelerator is seen inside"
device = torch.device("cuda")
print("device", torch.cuda.get_device_name(device))
torch.manual_seed(0)
inputs = torch.randn(20_000, 64)
targets = (inputs @ torch.randn(64, 1) > 0).float()
# Workers hand their batches over in shared memory.
batches = DataLoader(TensorDataset(inputs, targets), batch_size=512, shuffle=True, num_workers=2)
model = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.ReLU(), torch.nn.Linear(256, 1)).to(device)
optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
begun, losses = time.monotonic(), []
while time.monotonic() - begun < 30:
    for x, y in batches:
        loss = torch.nn.functional.binary_cross_entropy_with_logits(model(x.to(device)), y.to(device))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
print("learnt", losses[-1] < losses[0] / 2, len(losses))
"""


@pytest.mark.live
@pytest.mark.timeout(1800)
async def test_a_training_of_thirty_seconds_sees_the_accelerator(tmp_path: Path):
    if not devices.find().accelerators:
        pytest.skip("this machine has no accelerator: what runs on one was NOT tested")
    if (found := probe()).level < Level.FULL:
        pytest.skip(f"this machine's sandbox level is {found.level.name}: {found.reasons}")
    walk = Walk(tmp_path)
    (walk.workspace / "train.py").write_text(TRAIN)
    try:
        async with Hearing(story([bash("uv run train.py", timeout=1500)])) as double:
            running = await walk.start("train", *MODEL, "--base-url", double.url, "--level", "full")
            done = await running.ended(1700)
        assert done.code == 0, done.said
        (answer,) = await walk.answers()
        assert "learnt True" in answer.text, answer.text
    finally:
        await walk.close()
