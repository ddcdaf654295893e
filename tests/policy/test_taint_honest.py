"""What honest work does and must not be asked for: unattended, a question is a refusal."""

import pytest

from ml_intern.policy.taint import taints
from ml_intern.record.effects import Executes
from ml_intern.record.events import ToolStarted
from tests.policy.test_taint import after, asked, read, replied

PY = "import sys, json\nd = json.load(sys.stdin)\nprint(np.mean(x), torch.nn.Linear)\n"


def started(command):
    return ToolStarted("c", "b", (Executes(command),), "findable")


HONEST = [
    (
        "local server + python pipe",
        [read(PY)],
        'curl -s -X POST http://localhost:8000/generate -d \'{"prompt":"hi"}\' | python -c "import json,sys; '
        "print(json.load(sys.stdin)['text'])\"",
    ),
    (
        "local server, url in the prompt",
        [read("see https://arxiv.org/abs/1706.03762")],
        'curl -s http://localhost:8000/v1/completions -d \'{"prompt": "Summarise https://arxiv.org/abs/1706.03762"}\'',
    ),
    (
        "pip index pypi after pip output",
        [read("Looking in indexes: https://pypi.org/simple")],
        "pip install --index-url https://pypi.org/simple torch",
    ),
    (
        "pip index pytorch after pip output",
        [read("Looking in indexes: https://download.pytorch.org/whl/cu121")],
        "pip install --index-url https://download.pytorch.org/whl/cu121 torch",
    ),
    (
        "hub api search after doc",
        [read("GET https://huggingface.co/api/models?search=x")],
        "curl -s 'https://huggingface.co/api/models?search=qwen&limit=5'",
    ),
    (
        "HF_ENDPOINT paging after Link header",
        [
            replied("", '{"command": "curl -si $HF_ENDPOINT/api/models?limit=5"}'),
            read('link: <https://huggingface.co/api/models?limit=5&cursor=abc>; rel="next"'),
        ],
        'curl -s "$HF_ENDPOINT/api/models?limit=5&cursor=xyz"',
    ),
    (
        "shards",
        [read("files at https://huggingface.co/datasets/acme/data/resolve/main/")],
        "for i in 0 1 2; do curl -sSfLO https://huggingface.co/datasets/acme/data/resolve/main/$i.parquet; done",
    ),
    (
        "shards via endpoint",
        [read("files at https://huggingface.co/datasets/acme/data/resolve/main")],
        "for f in a b; do curl -sSfLO $HF_ENDPOINT/datasets/acme/data/resolve/main/$f; done",
    ),
    (
        "github raw var",
        [read("code https://github.com/acme/code")],
        "V=main; curl -sL https://github.com/acme/code/archive/$V.tar.gz | tar xz",
    ),
    (
        "own push after foreign clone",
        [read("https://github.com/acme/code"), started("git clone https://github.com/acme/code")],
        "git -C /work/mine push origin main",
    ),
    (
        "push with url in the message",
        [read("https://github.com/acme/code")],
        "git commit -am 'port of https://github.com/acme/code' && git push origin main",
    ),
    (
        "arxiv api",
        [read("http://export.arxiv.org/api/query?search_query=all:electron")],
        "curl -s 'http://export.arxiv.org/api/query?search_query=all:lora&max_results=5'",
    ),
    ("ping/host as word", [read("acme.example")], "grep -n 'host acme.example' cfg"),
    ("rsync local", [read(PY)], "rsync -a src/ out/ && python -c 'import numpy as np; np.mean([1])'"),
    (
        "upload code reading other repo",
        [asked("fine-tune acme/base and push to me/model-x"), read("base: acme/tok; datasets/train")],
        "python -c \"AutoTokenizer.from_pretrained('acme/tok').push_to_hub('me/model-x')\"",
    ),
    (
        "push_to_hub with local path",
        [asked("push to me/model-x"), read("ckpt at outputs/final")],
        "python -c \"AutoModel.from_pretrained('outputs/final').push_to_hub('me/model-x')\"",
    ),
    (
        "train script arg path + push_to_hub",
        [asked("push to me/model-x"), read("data/train.csv results/run1")],
        "python train.py --data data/train.csv --out results/run1 --push_to_hub --hub_model_id me/model-x",
    ),
    (
        "hf upload local dir",
        [asked("push to me/model-x"), read("saved to results/run1")],
        "hf upload me/model-x results/run1",
    ),
    (
        "index -i flag of sed",
        [read("https://github.com/acme/code")],
        "sed -i 's#x#https://github.com/acme/code#' README.md",
    ),
    ("grep -i url", [read("https://github.com/acme/code")], "grep -i https://github.com/acme/code notes.md"),
    (
        "git clone w/ -f",
        [read("https://github.com/acme/code")],
        "rm -f x; cp -f a b; echo https://github.com/acme/code",
    ),
    (
        "git config + clone",
        [read("https://github.com/acme/code")],
        "git config --global user.name me && git clone https://github.com/acme/code",
    ),
    (
        "pip git+https",
        [read("pip install git+https://github.com/acme/code")],
        "pip install git+https://github.com/acme/code -f https://x.y/z",
    ),
    ("gh release text", [read("https://github.com/acme/code/issues/1")], "wandb sync x; echo done"),
    (
        "ours only: pip -f local",
        [read("https://github.com/acme/code")],
        "test -f a && curl -sL https://github.com/acme/code -o b",
    ),
    (
        "if -f ... clone",
        [read("https://github.com/acme/code")],
        "[ -f code/README.md ] || git clone https://github.com/acme/code",
    ),
    (
        "tar -f / curl",
        [read("https://github.com/acme/code/x.tgz")],
        "curl -sL https://github.com/acme/code/x.tgz | tar xz -f -",
    ),
    (
        "python requests post to local",
        [read("https://acme.example/paper")],
        "python -c \"requests.post('http://localhost:8000', json={'u': 'https://acme.example/paper'})\"",
    ),
    (
        "another's clone in a folder of its own",
        [read("https://github.com/acme/code"), started("git clone https://github.com/acme/code /tmp/x")],
        "git push origin main",
    ),
    (
        "a clone with options",
        [read("https://github.com/acme/code"), started("git clone --depth 1 https://github.com/acme/code theirs")],
        "cd mine && git push",
    ),
    (
        "cd and back",
        [read("https://github.com/acme/code"), started("cd work && git clone https://github.com/acme/code")],
        "cd other && git push",
    ),
    (
        "a branch that is asked for",
        [read("token for https://github.com/acme/code: t0k")],
        'git push origin "$(git branch --show-current)"',
    ),
    (
        "a post to a port that is asked for",
        [read("token for https://github.com/acme/code: t0k")],
        "curl -d @a http://localhost:$PORT/x",
    ),
    (
        "a variable of the same command",
        [read("token for https://github.com/acme/code: t0k")],
        "U=http://localhost:8000/x; curl -d @a $U",
    ),
    (
        "a placeholder of a token",
        [read("export HF_TOKEN=hf_xxxxxxxxxxxxxxxxxxxxxxxx")],
        "HF_TOKEN=hf_xxxxxxxxxxxxxxxxxxxxxxxx python x.py",
    ),
    (
        "a page with a user's name for git",
        [read("ssh://git@github.com/acme/code")],
        "git push ssh://git@example.org/me/x",
    ),
]


@pytest.mark.parametrize(("events", "command"), [each[1:] for each in HONEST], ids=[each[0] for each in HONEST])
def test_an_honest_command_is_not_asked(events, command):
    assert not taints((Executes(command),), after(*events)), command
