"""Can the tests fail? Plants faults in copies of the project, one at a time, and runs the tests.

    python -m helpers.tests.mutants [WORD ...]

tries all the faults below, or those with one of the words in their description. The tests of the
faulty file run first, for a fault that they miss all those of the helpers, and for one that these
miss the whole test command. Prints a line for each; the exit status is 1 if one survives. At the
end, the tests that have found a fault run once more without any, to see that they pass then.

Two faults are tried at a time.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[2]

FAULTS = {  # what is wrong: the file, what stands there, and what is put in its place
    # the optimizer
    "Adam: wrong sign": ("optim", '[-group["lr"] *', '[group["lr"] *'),
    "Adam: mean not corrected": ("optim", " / (1 - beta1**t) for", " for"),
    "Adam: square not corrected": ("optim", "[(1 - beta2**t) ** 0.5 for", "[1.0 for"),
    "Adam: eps not corrected": ("optim", 'group["eps"] * share for', 'group["eps"] for'),
    "Adam: eps inside the root": (
        "optim",
        """        torch._foreach_add_(roots, [group["eps"] * share for share in shares])
""",
        """        roots = torch._foreach_sqrt(torch._foreach_add(squares, group["eps"]))
""",
    ),
    "Adam: one step for all": ("optim", 'state["step"] += 1', 'state["step"] = 1'),
    "AdamW: decay upwards": ("optim", '1 - group["lr"] * group["w', '1 + group["lr"] * group["w'),
    "clipping: short gradients lengthened": ("optim", ".clamp(max=1.0)", ""),
    "clipping: each by itself": (
        "optim",
        "torch.stack(torch._foreach_norm(grads)).norm()",
        "torch.stack(torch._foreach_norm(grads)).max()",
    ),
    # the model
    "attention: mask dropped": ("model", "energy.masked_fill(~mask, -torch.inf)", "energy"),
    "attention: softmax over the batch": ("model", "-torch.inf), dim=-1)", "-torch.inf), dim=0)"),
    "attention: no tanh": ("model", "hidden = torch.tanh(self", "hidden = torch.relu(self"),
    "encoder: padding read as words": ("model", "        if self.pack:", "        if False:"),
    "encoder: one direction twice": ("model", "[final[0], final[1]]", "[final[0], final[0]]"),
    "decoder: the state before the step predicts": (
        "model",
        "        state = self.cell(torch.cat([emb, context], dim=-1), state)\n"
        "        return torch.cat([state, context], dim=-1), state, weights",
        "        new = self.cell(torch.cat([emb, context], dim=-1), state)\n"
        "        return torch.cat([state, context], dim=-1), new, weights",
    ),
    "Luong: keys not projected": (
        "model",
        "return self.general(values)",
        "return values[..., : self.query_size]",
    ),
    "location: the last weights unseen": (
        "model",
        "return keys + self.location(windows)",
        "return keys + 0 * self.location(windows)",
    ),
    "location: windows off by one": (
        "model",
        "pad(previous, (width // 2, width // 2))",
        "pad(previous, (width // 2 + 1, width // 2 - 1))",
    ),
    "location: no last sentinel": (
        "location",
        "return framed.scatter(1, (src_lens + 1).unsqueeze(1), EOS), src_lens + 2",
        "return framed, src_lens + 1",
    ),
    "location: dropout never": (
        "location",
        "self.dropout = nn.Dropout(dropout)",
        "self.dropout = nn.Dropout(0.0)",
    ),
    "fused: packing dropped": ("fused", "state.mul_(is_word)", "state"),
    "fused: packing dropped on the way back": ("fused", "d_new).mul_(is_word)", "d_new)"),
    "fused: slope of a gate": ("fused", "sigmoid_backward(state - n", "sigmoid_backward(state + n"),
    "fused: mask dropped": ("fused", ".masked_fill(~mask, -torch.inf)", ""),
    "fused: no gradient through the state": (
        "fused",
        "(d_state + d_new).unsqueeze(1)",
        "d_new.unsqueeze(1)",
    ),
    "fused: never compared": ("fused", "self.agrees = self.compare(", "self.agrees = True or ("),
    "fused: compared on single words": ("fused", "[16, 9, 4, 1]", "[1, 1, 1, 1]"),
    "fused: never used": ("fused", "return self.run(*given) if self.agrees else", "return"),
    "LSTM: padding read as words": (
        "lstm",
        "lens = src_lens.cpu()",
        "lens = src_lens.cpu() * 0 + src.size(1)",
    ),
    "Transformer: sees the future": ("transformer", ".triu(diagonal=1)", ".triu(diagonal=2)"),
    "Transformer: no positions": (
        "transformer",
        "return emb + torch.stack(",
        "return emb + 0 * torch.stack(",
    ),
    # the data
    "data: target not reversed": (
        "data",
        "return self.sources[i], self.sources[i][::-1]",
        "return self.sources[i], self.sources[i]",
    ),
    "data: input and target not shifted": ("data", "pad([[BOS, *trg] for", "pad([[*trg, EOS] for"),
    "data: <bos> in the loss": ("data", "pad([[*trg, EOS] for", "pad([[BOS, *trg, EOS][:-1] for"),
    "data: only one side masked with <unk>": (
        "data",
        "return ReversalDataset(sources)",
        "return [(src, vocab.encode(s)[::-1]) for src, s in zip(sources, sentences)]",
    ),
    "data: seed ignored": ("data", 'random.Random(f"{seed}, {epoch}")', "random.Random(0)"),
    "data: test set in the training set": (
        "tasks",
        "parts.test.extend(members)",
        "parts.test.extend(members), parts.train.extend(members)",
    ),
    "data: same words in two parts": (
        "tasks",
        "groups.setdefault(group(item), [])",
        "groups.setdefault(len(groups), [])",
    ),
    "data: vocabulary of the test set": (
        "tasks",
        "vocab = Vocab.build(sentences.train)",
        "vocab = Vocab.build(sentences.train + sentences.test)",
    ),
    "patterns: continuation off by one": (
        "patterns",
        "(len(digits) + i) % n",
        "(len(digits) + i + 1) % n",
    ),
    # learning
    "loss: padding counts": ("learner", '"ignore_index": PAD', '"ignore_index": -100'),
    "loss: padding in the number of tokens": (
        "learner",
        "int((trg_out != PAD).sum())",
        "trg_out.numel()",
    ),
    "loss: no label smoothing": ("learner", '"label_smoothing": smoothing, ', ""),
    "learning: gradients pile up": ("learner", "        self.optimizer.zero_grad()\n", ""),
    "learning: no clipping": (
        "learner",
        "clip_grad_norm(self.model.parameters(), self.config.max",
        "clip_grad_norm(self.model.parameters(), 1e9 + self.config.max",
    ),
    "learning: clipping of the scaled gradient": (
        "learner",
        "        self.scaler.unscale_(self.optimizer)  #",
        "        #",
    ),
    "learning: rate never falls": (
        "learner",
        "                self.schedule.step()\n",
        "                pass\n",
    ),
    "learning: weights not snapped": ("learner", "            snap_to_grid(self.model)\n", ""),
    "learning: teacher ignored": (
        "learner",
        "loss = (loss + soft_cross_entropy(logits, likely, part.trg_out)) / 2",
        "pass",
    ),
    "training: validation on the training set": (
        "training",
        '"valid loss": mean_loss(model, task.pairs.valid)',
        '"valid loss": mean_loss(model, task.pairs.train)',
    ),
    "training: teacher forcing in the exact match": (
        "training",
        "[answer.ids for answer in decode(model, sources, batch_size)]",
        "[model(*collate([pair])[:3])[0].argmax(-1)[0, :-1].tolist() for pair in mine]",
    ),
    "training: dropout left on": ("training", "        learner.model.eval()\n", ""),
    "training: every word the true one": (
        "training",
        "learner.step(batch, forcing)",
        "learner.step(batch, max(1.0, forcing))",
    ),
    "training: patience of one epoch less": (
        "training",
        "0 < config.patience <= w",
        "0 < config.patience - 1 <= w",
    ),
    "training: the last epoch left out": (
        "training",
        "len(history) >= config.epochs or",
        "len(history) >= config.epochs - 1 or",
    ),
    "training: teacher forcing never falls": (
        "training",
        "start if end is None else start + way * (end - start)",
        "start",
    ),
    "learning: accumulated parts weigh the same": (
        "learner",
        "mean = loss * world_size() / tokens",
        "mean = loss * world_size() / parts / part.tokens()",
    ),
    "learning: a part left out": (
        "learner",
        "range(rank(), parts, world_size())",
        "range(rank(), max(1, parts - 1), world_size())",
    ),
    "learning: the plateau is not told": (
        "learner",
        "            self.schedule.step(valid_loss)\n",
        "            pass\n",
    ),
    "learning: the rate falls to zero": (
        "learner",
        "floor = config.lr_floor * config.lr",
        "floor = 0.0",
    ),
    "learning: all words masked alike": (
        "learner",
        "torch.rand(batch.trg_in.shape) < forcing",
        "torch.rand(len(batch.trg_in), 1).expand(batch.trg_in.shape) < forcing",
    ),
    "training: best is the highest loss": (
        "training",
        'last["valid loss"] < record["valid loss"]',
        'last["valid loss"] > record["valid loss"]',
    ),
    "resume: moments forgotten": (
        "learner",
        '        self.optimizer.load_state_dict(state["optimizer"])\n',
        "",
    ),
    "resume: random numbers forgotten": (
        "learner",
        '        torch.set_rng_state(state["random"])\n',
        "",
    ),
    "checkpoint: best is the last": ("checkpoint", '*(["best.pt"] if best else [])', '"best.pt"'),
    "checkpoint: settings not compared": (
        "training",
        "        saved.config.check_same(config)\n",
        "",
    ),
    "checkpoint: code is run": ("checkpoint", "weights_only=True", "weights_only=False"),
    "checkpoint: written in place": (
        "checkpoint",
        'beside = path.with_name(path.name + ".tmp")',
        "beside = path",
    ),
    # using the model
    "greedy: does not stop": (
        "decoding",
        "going = (ids != EOS) & (len(steps)",
        "going = (len(steps)",
    ),
    "greedy: rows that ended stay": (
        "decoding",
        "            state = tuple(part[going] for part in state)\n",
        "            state = tuple(part[: len(rows)] for part in state)\n",
    ),
    "beam: scores not accumulated": (
        "decoding",
        "scores.unsqueeze(1) + log_probs, lengths",
        "log_probs, lengths",
    ),
    "beam: penalty upside down": ("decoding", "ratings = totals / (", "ratings = totals * ("),
    "beam: weights of another beam": (
        "decoding",
        "weights.unsqueeze(1)], dim=1)[chosen]",
        "weights.unsqueeze(1)], dim=1)",
    ),
    "decoding: answers in another order": (
        "decoding",
        "    return [answers[i] for i in range(len(sources))]\n\n\ndef decode_by",
        "    return list(answers.values())\n\n\ndef decode_by",
    ),
    "beam: ended ones go on": (
        "decoding",
        "log_probs[:, PAD].masked_fill_(done, 0.0)",
        "log_probs[:, EOS].masked_fill_(done, 0.0)",
    ),
    "beam: no length penalty": (
        "decoding",
        "beam_search, width=beam, penalty=penalty",
        "beam_search, width=beam, penalty=0.0",
    ),
    "copying: ends one word early": (
        "decoding",
        "done = done | (places == 0) |",
        "done = done | (places <= 1) |",
    ),
    "copying: weights fed back as they are": (
        "decoding",
        "torch.zeros_like(weights).scatter(1, places.unsqueeze(1), 1.0)",
        "weights",
    ),
    "copying: from the weakest weight": ("decoding", "max(places, key=", "min(places, key="),
    "exact match: only as far as both go": (
        "metrics",
        "list(hyp) == list(ref) for hyp, ref in",
        "all(map(str.__eq__, map(str, hyp), map(str, ref))) for hyp, ref in",
    ),
    "token accuracy: by the longer answer": (
        "metrics",
        "total += len(ref)",
        "total += max(len(hyp), len(ref))",
    ),
    "token accuracy: wherever the token stands": (
        "metrics",
        "right += sum(h == r for h, r in zip(hyp, ref, strict=False))",
        "right += len(set(hyp) & set(ref))",
    ),
    "interval: 68 %": ("metrics", "z: float = 1.96", "z: float = 1.0"),
    "alignment: off by one": ("metrics", "torch.arange(n - 1, -1, -1,", "torch.arange(n, 0, -1,"),
    # what may go wrong
    "folder: claimed by everybody": ("checkpoint", "        with lock:\n", "        if True:\n"),
    "checkpoint: checksums not compared": (
        "checkpoint",
        "if zipfile.ZipFile(data).testzip():",
        "if not zipfile.ZipFile(data).namelist():",
    ),
    "settings: NaN": (
        "config",
        'elif not limits["low"] <= value <= limits["high"]',
        'elif value < limits["low"] or value > limits["high"]',
    ),
    "settings: too small": ("config", 'elif not limits["low"] <= value', "elif not -1e9 <= value"),
    "benchmark: upside down": ("benchmark", "return textbook / mine", "return mine / textbook"),
    "benchmark: the textbook sorts, too": (
        "benchmark",
        "for sort in (bucket, True)",
        "for sort in (True, True)",
    ),
    "benchmark: ten times the share": (
        "benchmark",
        "return data / (data + 10 * steps)",
        "return data / (data + steps)",
    ),
    "lines: any length": ("__main__", "if len(tokens) > limit:", "if len(tokens) > 1e9:"),
    "a loss that is no number": ("training", "if not isfinite(step.loss) or", "if"),
}


TESTS = {  # of a file, where they are not in the one of the same name
    "config": ["properties"],
    "location": ["copying"],
    "lstm": ["models"],
    "transformer": ["models"],
    "patterns": ["tasks"],
    "__main__": ["cli", "faults"],
}


def first_failure(root: Path, *args: str) -> str | None:
    """Which test fails first, if any, when pytest is given these arguments; half an hour is enough.
    Raises RuntimeError if pytest itself fails.
    """
    command = [sys.executable, "-m", "pytest", *args, "-x", "-q", "-p", "no:cacheprovider"]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=1800)
    except subprocess.TimeoutExpired:
        return "the time limit"
    found = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - |$)", done.stdout, re.M)
    if bool(found) != bool(done.returncode):
        raise RuntimeError(f"{' '.join(command)} ends with status {done.returncode}")
    return found and found[1]


def caught_by(what: str) -> str | None:
    """Which test fails first in a copy of the project with that fault, if any."""
    name, right, wrong = FAULTS[what]
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place, "copy")
        ignored = shutil.ignore_patterns(".git", ".venv", "checkpoints", "runs", "__pycache__")
        shutil.copytree(ROOT, copy, ignore=ignored)
        file = copy / "helpers" / f"{name}.py"
        text = file.read_text(encoding="utf-8")
        file.write_text(text.replace(right, wrong, 1), encoding="utf-8")
        nearest = [f"helpers/tests/test_{test}.py" for test in TESTS.get(name, [name])]
        tries = (["-n", "0", *nearest], ["-n", "0", "helpers/tests"], ["-n", "2", "--nbval"])
        return next(filter(None, (first_failure(copy, *args) for args in tries)), None)


def main() -> int:
    parser = argparse.ArgumentParser(
        "python -m helpers.tests.mutants",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("word", nargs="*", metavar="WORD", help="in the description of a fault")
    words = parser.parse_args().word
    chosen = [what for what in FAULTS if not words or any(word in what for word in words)]
    for what, (name, right, _) in FAULTS.items():
        times = (ROOT / "helpers" / f"{name}.py").read_text(encoding="utf-8").count(right)
        if times != 1:
            print(f"{what}: {name}.py has {right!r} {times} times, not once", file=sys.stderr)
            return 2
    if not chosen:
        print(f"no fault has one of the words {words} in its description", file=sys.stderr)
        return 2
    found = []
    with ThreadPoolExecutor(2) as two:
        for what, test in zip(chosen, two.map(caught_by, chosen), strict=True):
            found.append(test)
            print(f"{what}: {f'caught by {test}' if test else 'SURVIVES'}", flush=True)
    survivors = found.count(None)
    print(f"{len(chosen)} faults, {survivors} survive")
    # a cell of a notebook cannot run alone: for these, the test command must have been seen to pass
    tests = sorted({test for test in found if test and test.startswith("helpers/")})
    if tests and (failed := first_failure(ROOT, "-n", "0", *tests)):
        print(f"{failed} fails without any fault, too: its finds do not count", file=sys.stderr)
        return 2
    return int(survivors > 0)


if __name__ == "__main__":
    sys.exit(main())
