"""What the checks of the assignment make of students' work: wrong, right in another way, hostile.

A fault costs the sub-checks that are listed with it, and nothing else.
"""

import hashlib
import inspect
from pathlib import Path
from tempfile import gettempdir

import pytest
import torch

from helpers.course import examine as examination
from helpers.course.checks import difference
from helpers.course.examine import examine
from helpers.course.rows import BY_LABEL, ROWS
from helpers.course.runner import attempt
from helpers.course.sheet import Sheet, from_json, make_sheet, solution, to_json, trial_place
from helpers.course.source import blank, graft

ROOT = Path(__file__).parents[2]
RIGHT = {name: inspect.getsource(module) for name, module in solution()}
TRIED = [row.label for row in ROWS if row.checks]
NAMES = {label: [check.name for check in BY_LABEL[label].checks] for label in TRIED}

CELL = "self.cell(torch.cat([emb, context], dim=-1), state)"
MASKED = "torch.softmax(energy.masked_fill(~mask, -torch.inf), dim=-1)"
FINAL = "torch.cat([final[0], final[1]], dim=-1)"
EPS = 'torch._foreach_add_(roots, [group["eps"] * share for share in shares])'
GLOBAL = "torch.stack(torch._foreach_norm(grads)).norm()"
SCALED = "torch._foreach_mul_(grads, (max_norm / (norm + 1e-6)).clamp(max=1.0))"
HITS = "sum(h == r for h, r in zip(hyp, ref, strict=False))"

FAULTS = [  # the row, what is wrong, what stands there, what is put in its place, what it loses
    ("A1", "padding read as words", "lens, length = src_lens.cpu()",
     "lens, length = torch.full_like(src_lens, src.size(1)).cpu()", "backward states"),
    ("A1", "no packing", "packed, final = self.gru(packed)",
     "enc_outputs, final = self.gru(emb)\n        return enc_outputs, torch.tanh("
     f"self.bridge({FINAL}))", "backward states"),
    ("A1", "unsorted lengths not allowed", ", enforce_sorted=False", "", "backward states"),
    ("A1", "no longer than the longest source", ", total_length=length", "", "shapes"),
    ("A1", "states (S, B, 2H)", "(packed, batch_first=True, total", "(packed, total",
     "shapes, forward states, backward states"),
    ("A1", "halves exchanged", "total_length=length)\n",
     "total_length=length)\n"
     "        enc_outputs = torch.cat(enc_outputs.chunk(2, dim=-1)[::-1], dim=-1)\n",
     "forward states, backward states"),
    ("A1", "one direction twice", "[final[0], final[1]]", "[final[0], final[0]]", "first state"),
    ("A1", "directions exchanged", "[final[0], final[1]]", "[final[1], final[0]]", "first state"),
    ("A1", "no tanh", "torch.tanh(self.bridge", "(self.bridge", "first state"),
    ("A1", "the state at the last place", FINAL, "enc_outputs[:, -1]", "first state"),
    ("A2", "another function than tanh", "torch.tanh(self.project", "torch.relu(self.project",
     "scores"),
    ("A2", "no tanh", "torch.tanh(self.project", "(self.project", "scores"),
    ("A2", "scores divided by a root", ".squeeze(-1)  # (B, S)", ".squeeze(-1) / 2", "scores"),
    ("A2", "keys projected twice", " + keys)", " + self.project_keys(keys))", "scores, context"),
    ("A2", "the query lacks a dimension", ".unsqueeze(1) + keys", " + keys", "scores, context"),
    ("A2", "context from keys", "look_up(energy, values", "look_up(energy, keys", "context"),
    ("A2", "context a plain mean", "torch.bmm(weights.unsqueeze(1), values).squeeze(1)",
     "values.mean(dim=1)", "context"),
    ("A2", "context with a dimension too many", "values).squeeze(1)", "values)", "context"),
    ("A2", "mask not handed on", "look_up(energy, values, mask)",
     "look_up(energy, values, torch.ones_like(mask))", "padding"),
    ("A2", "-1e9", "-torch.inf", "-1e9", "half precision"),
    ("A2", "mask dropped", "energy.masked_fill(~mask, -torch.inf)", "energy",
     "padding, masked weights"),
    ("A2", "mask inverted", "~mask, -torch", "mask, -torch", "padding, masked weights"),
    ("A2", "scores of padding are 0", "-torch.inf", "0.0", "padding, masked weights"),
    ("A2", "softmax over the batch", "inf), dim=-1)", "inf), dim=0)", "sum, masked weights"),
    ("A2", "masked after the softmax", MASKED, "torch.softmax(energy, dim=-1) * mask",
     "sum, masked weights"),
    ("A3", "the new state asks", f"state = {CELL}",
     f"state = {CELL}\n        context, weights = self.attention(state, keys, values, mask)",
     "query"),
    ("A3", "keys and values exchanged", "(state, keys, values, mask)\n        state =",
     "(state, values, keys, mask)\n        state =", "query"),
    ("A3", "mask inverted", "values, mask)\n        state", "values, ~mask)\n        state",
     "query"),
    ("A3", "context before word", "[emb, context]", "[context, emb]", "new state"),
    ("A3", "the cell forgets", f"state = {CELL}", f"state = {CELL[:-8]})", "new state"),
    ("A3", "the old state is returned",
     f"state = {CELL}\n        return torch.cat([state, context]",
     f"new = {CELL}\n        return torch.cat([new, context]", "new state"),
    ("A3", "features in the wrong order", "[state, context]", "[context, state]", "features"),
    ("A3", "features of the old state",
     f"state = {CELL}\n        return torch.cat([state, context], dim=-1), state",
     f"new = {CELL}\n        return torch.cat([state, context], dim=-1), new", "features"),
    ("A4", "padding in the loss", '"ignore_index": PAD', '"ignore_index": -100', "padding"),
    ("A4", "no ignore_index", '"ignore_index": PAD, ', "", "padding"),
    ("A4", "a number without gradient", "return total, int", "return total.item(), int", "padding"),
    ("A4", "padding in the number", "int((trg_out != PAD).sum())", "trg_out.numel()", "count"),
    ("A4", "sentences counted", "int((trg_out != PAD).sum())", "len(trg_out)", "count"),
    ("A4", "mean instead of sum", '"reduction": "sum"', '"reduction": "mean"', "sum"),
    ("A4", "targets in another order", "trg_out.flatten()", "trg_out.T.flatten()", "padding, sum"),
    ("A5", "wrong sign", '[-group["lr"] *', '[group["lr"] *', "corrected step"),
    ("A5", "rate left out", '-group["lr"] * s /', "-s /", "corrected step"),
    ("A5", "mean not corrected", " / (1 - beta1**t) for", " for", "corrected step"),
    ("A5", "square not corrected", "[(1 - beta2**t) ** 0.5 for", "[1.0 for", "corrected step"),
    ("A5", "t begins at 2", 'state["step"] = 0', 'state["step"] = 1', "corrected step"),
    ("A5", "betas exchanged", "(beta1, beta2) =", "(beta2, beta1) =", "moments, corrected step"),
    ("A5", "gradient not squared", "squares, grads, grads, value",
     "squares, torch._foreach_abs(grads), [torch.ones_like(g) for g in grads], value", "moments"),
    ("A5", "gradient added whole", "torch._foreach_lerp_(means, grads, 1 - beta1)",
     "torch._foreach_mul_(means, beta1)\n        torch._foreach_add_(means, grads)", "moments"),
    ("A5", "eps before the correction", 'group["eps"] * share for', 'group["eps"] for', ""),
    ("A5", "eps inside the root", EPS,
     'roots = torch._foreach_sqrt(torch._foreach_add(squares, group["eps"]))', "eps"),
    ("A5", "eps left out", EPS, "", "eps"),
    ("A5", "a missing gradient crashes", '["params"] if param.grad is not None]', '["params"]]',
     "missing gradients"),
    ("A5", "a missing gradient is 0", 'group["params"] if param.grad is not None]',
     'group["params"]]\n            for param in params:\n                if param.grad is None:\n'
     "                    param.grad = torch.zeros_like(param)", "missing gradients"),
    ("A5", "one counter for all", 'state["step"] += 1',
     'self.t = getattr(self, "t", 0) + (param is params[0])\n            state["step"] = self.t',
     "missing gradients"),
    ("A5", "t is always 1", 'state["step"] += 1', 'state["step"] = 1',
     "missing gradients, corrected step, eps"),
    ("A5", "moments shared", "[self.state[param] for param", "[self.state[params[0]] for param",
     "moments, missing gradients, corrected step, eps"),
    ("A6", "short gradients lengthened", ".clamp(max=1.0)", "", "short gradients"),
    ("A6", "largest norm of one", GLOBAL, GLOBAL.replace(".norm()", ".max()"), "norm, one factor"),
    ("A6", "sum of norms", GLOBAL, GLOBAL.replace(".norm()", ".sum()"), "norm, one factor"),
    ("A6", "no root", GLOBAL, GLOBAL + "**2", "norm, one factor"),
    ("A6", "each by itself", SCALED, "for grad in grads:\n"
     "        grad.mul_((max_norm / (grad.norm() + 1e-6)).clamp(max=1.0))", "one factor"),
    ("A6", "by value", SCALED, "for grad in grads:\n        grad.clamp_(-max_norm, max_norm)",
     "one factor"),
    ("A6", "not in place", SCALED, SCALED.replace("mul_", "mul"),
     "one factor, short gradients"),
    ("A6", "norm after clipping", "return norm\n",
     "return torch.stack(torch._foreach_norm(grads)).norm()\n", "norm"),
    ("A6", "a missing gradient crashes", " if param.grad is not None]\n    if not grads:",
     "]\n    if not grads:", "norm"),
    ("A7", "state not carried on", "features, state, weights = self.step(",
     "features, _, weights = self.step(", "logits, weights"),
    ("A7", "reads its own words", "for emb in self.embedding(trg_in).unbind(dim=1):",
     "ids = trg_in[:, 0]\n        for _ in range(trg_in.size(1)):\n"
     "            emb = self.embedding(ids)\n            ids = self.output(\n"
     "                self.step(emb, state, keys, enc_outputs, mask)[0]).argmax(-1)",
     "logits, weights, true words"),
    ("A7", "reads the next word", "self.embedding(trg_in).", "self.embedding(trg_in.roll(-1, 1)).",
     "logits, weights, true words"),
    ("A7", "keys not projected", "self.attention.project_keys(enc_outputs)  # (B, S, A), once",
     "enc_outputs  # once", "logits, weights"),
    ("A7", "mask inverted", "keys, enc_outputs, mask)\n            all",
     "keys, enc_outputs, ~mask)\n            all", "weights"),
    ("A7", "weights (T, B, S)", "torch.stack(all_weights, dim=1)", "torch.stack(all_weights)",
     "weights"),
    ("A7", "logits (T, B, V)", "torch.stack(all_features, dim=1)", "torch.stack(all_features)",
     "logits"),
    ("A7", "softmax of the logits", "return logits, torch.stack(",
     "return logits.softmax(dim=-1), torch.stack(", "logits"),
    ("A8", "ties accepted", '["valid loss"] < record', '["valid loss"] <= record', "which"),
    ("A8", "the highest loss", '["valid loss"] < record', '["valid loss"] > record', "which"),
    ("A8", "only the epoch before", "for record in earlier)", "for record in earlier[-1:])",
     "which"),
    ("A8", "never the first", "return all(last", "return bool(earlier) and all(last", "which"),
    ("A8", "every epoch saved", "        if is_best(history):\n", "        if True:\n", "file"),
    ("A8", "only the first saved", "        if is_best(history):\n",
     "        if not path.exists():\n", "file"),
    ("A8", "no folder", "            path.parent.mkdir(parents=True, exist_ok=True)\n", "", "file"),
    ("A8", "the model as a whole", "model.state_dict()", "model", "file"),
    ("A9", "a mean of means", "total + loss.item(), tokens + count",
     "total + loss.item() / count, tokens + 1", "several batches"),
    ("A9", "only the last batch", "total, tokens = total + loss.item(), tokens + count",
     "total, tokens = loss.item(), count", "several batches"),
    ("A9", "by the number of pairs", "return total / tokens\n\n\ndef train(",
     "return total / len(pairs)\n\n\ndef train(", "one batch, several batches"),
    ("A9", "padding counts", "tokens + count\n    return",
     "tokens + batch.trg_out.numel()\n    return",
     "one batch, several batches"),
    ("A9", "reads the words it is to predict",
     "batch.src_lens, batch.trg_in)\n        loss, count",
     "batch.src_lens, batch.trg_out)\n        loss, count", "one batch, several batches"),
    ("A10", "does not stop at <eos>", "going = (ids != EOS) & (len(steps)", "going = (len(steps)",
     "words, weights"),
    ("A10", "rows that ended stay", "part[going] for part in state)",
     "part[: len(rows)] for part in state)", "words, weights"),
    ("A10", "argmax over the batch", "logits.argmax(dim=-1)", "logits.argmax(dim=0)",
     "words, weights, cut off"),
    ("A10", "cut off one word early", "< limits[rows])", "< limits[rows] - 1)", "cut off"),
    ("A10", "cut off one word late", "< limits[rows])", "<= limits[rows])", "cut off"),
    ("A10", "one limit for all", "< limits[rows])", "< limits.max())", "cut off"),
    ("A10", "begins with <eos>", "torch.full_like(src_lens, BOS)",
     "torch.full_like(src_lens, EOS)", "words"),
    ("A10", "its own words not read", "model.next_word(ids, state)",
     "model.next_word(torch.full_like(ids, BOS), state)", "words, weights"),
    ("A10", "<eos> left out", "    return all_ids, all_weights",
     "    return all_ids.masked_fill(all_ids == EOS, PAD), all_weights", "words"),
    ("A10", "<eos> after the end", "len(steps)), PAD)", "len(steps)), EOS)", "words"),
    ("A10", "weights after the end", "new_zeros(*all_ids", "new_ones(*all_ids", "weights"),
    ("A11", "as far as both go", "list(hyp) == list(ref) for",
     "all(h == r for h, r in zip(hyp, ref)) for", "matches"),
    ("A11", "order left out", "list(hyp) == list(ref) for", "sorted(hyp) == sorted(ref) for",
     "matches"),
    ("A11", "one answer for all pairs", "[list(hyp) == list(ref) for hyp, ref in zip("
     "hypotheses, references, strict=True)]", "[list(hypotheses) == list(references)]", "matches"),
    ("A11", "number instead of share", "sum(right) / max(1, len(right))", "sum(right)",
     "exact match"),
    ("A11", "per cent", "return sum(right) /", "return 100 * sum(right) /", "exact match"),
    ("A11", "no sentences", "/ max(1, len(right))", "/ len(right)", "exact match"),
    ("A11", "by the hypotheses", "total += len(ref)", "total += len(hyp)", "tokens"),
    ("A11", "by the longer", "total += len(ref)", "total += max(len(hyp), len(ref))", "tokens"),
    ("A11", "wherever the token stands", HITS, "sum(h in ref for h in hyp)", "tokens"),
    ("A11", "a mean of means", f"{HITS}\n        total += len(ref)",
     f"{HITS} / len(ref)\n        total += 1", "tokens"),
    ("A12", "off by one", "torch.arange(n - 1, -1, -1,", "torch.arange(n, 0, -1,", "alignment"),
    ("A12", "not reversed", "torch.arange(n - 1, -1, -1,", "torch.arange(n,", "alignment"),
    ("A12", "<eos> counted", "total += n\n", "total += len(weights)\n", "alignment"),
    ("A12", "what was cut off left out", "total += n\n", "total += len(strongest)\n", "alignment"),
    ("A12", "a sentence cut off crashes", ")[: len(strongest)]", ")", "alignment"),
    ("A12", "over the steps", "weights[:n].argmax(dim=-1)", "weights[:n].argmax(dim=0)",
     "alignment"),
]  # fmt: skip

ALTERNATIVES = [  # the row, its functions in another way, and what else the module has then
    ("A1", {"model.Encoder.forward": """\
order = sorted(range(len(src)), key=lambda i: -int(src_lens[i]))
back = torch.tensor(order).argsort()
read = rnn.pack_padded_sequence(self.embedding(src[order]), src_lens[order], batch_first=True)
read, h = self.gru(read)
states, _ = rnn.pad_packed_sequence(read, batch_first=True)
states = F.pad(states, (0, 0, 0, src.size(1) - states.size(1)))
return states[back], self.bridge(h.transpose(0, 1).flatten(1)[back]).tanh()"""},
     "import torch.nn.functional as F\nimport torch.nn.utils.rnn as rnn\n"),
    ("A2", {"model.AdditiveAttention.forward": """\
sums = keys + self.project_query(query)[:, None]
return look_up(torch.einsum("bsa,a->bs", sums.tanh(), self.score.weight[0]), values, mask)""",
            "model.look_up": """\
small = torch.finfo(energy.dtype).min
weights = energy.masked_fill(mask == 0, small).softmax(1)
return torch.einsum("bs,bsh->bh", weights, values), weights"""}, ""),
    ("A2", {"model.AdditiveAttention.forward": """\
contexts, rows = [], []
for q, k, v, m in zip(query, keys, values, mask):
    energy = torch.tanh(k + self.project_query(q)) @ self.score.weight.T
    context, weights = look_up(energy.T, v[None], m[None])
    contexts.append(context[0])
    rows.append(weights[0])
return torch.stack(contexts), torch.stack(rows)""",
            "model.look_up": """\
scores = torch.where(mask, energy, torch.full_like(energy, NEVER))
exp = (scores - scores.max(dim=1, keepdim=True).values).exp()
weights = exp / exp.sum(dim=1, keepdim=True)
return torch.stack([w @ v for w, v in zip(weights, values)]), weights"""},
     'NEVER = float("-inf")\n'),
    ("A3", {"model.Decoder.step": """\
looked, weights = self.attention(query=state, keys=keys, values=values, mask=mask)
new = self.cell(side_by_side(emb, looked), state)
return side_by_side(new, looked), new, weights"""},
     "def side_by_side(*parts):\n    return torch.hstack(parts)\n"),
    ("A4", {"training.masked_cross_entropy": """\
chosen = logits.log_softmax(dim=-1).gather(2, trg_out.unsqueeze(2)).squeeze(2)
real = trg_out != PAD
return -(chosen * real).sum(), int(count_nonzero(real))"""}, "from torch import count_nonzero\n"),
    ("A5", {"optim.Adam.step": """\
for group in self.param_groups:
    for param in group["params"]:
        if param.grad is not None:
            self._update([param], group)""",
            "optim.Adam._update": """\
param, (b1, b2) = params[0], group["betas"]
state = self.state[param]
if len(state) == 0:
    state.update(step=0, mean=torch.zeros_like(param), square=torch.zeros_like(param))
t = state["step"] = state["step"] + 1
state["mean"] = b1 * state["mean"] + (1 - b1) * param.grad
state["square"] = b2 * state["square"] + (1 - b2) * param.grad**2
m_hat, v_hat = state["mean"] / (1 - b1**t), state["square"] / (1 - b2**t)
param -= group["lr"] * m_hat / (v_hat.sqrt() + group["eps"])"""}, ""),
    ("A5", {"optim.Adam.step": """\
for group in self.param_groups:
    for param in filter(has_gradient, group["params"]):
        s = self.state[param]
        if "step" not in s:
            s["step"] = torch.tensor(0)
            s["mean"], s["square"] = param.new_zeros(param.shape), param.new_zeros(param.shape)
        s["step"] += 1
        for name, beta, power in zip(("mean", "square"), group["betas"], (1, 2)):
            s[name].mul_(beta).add_(param.grad**power, alpha=1 - beta)
        mean, square = (s[name] / correction(beta, s["step"].item())
                        for name, beta in zip(("mean", "square"), group["betas"]))
        param.copy_(param - group["lr"] * mean / (square**0.5 + group["eps"]))
return None""",
            "optim.Adam._update": """\
raise NotImplementedError"""},
     "import math\n\nONE = 1\n\n\ndef correction(beta, t):\n    return ONE - math.pow(beta, t)\n"
     "\n\ndef has_gradient(param):\n    return param.grad is not None\n"),
    ("A6", {"optim.clip_grad_norm": """\
params = [p for p in params if p.grad is not None]
total = sum((p.grad**2).sum() for p in params) ** 0.5
if total > max_norm:
    for p in params:
        p.grad *= max_norm / total
return total"""}, ""),
    ("A6", {"optim.clip_grad_norm": """\
gradients = list(those(params))
norm = math.sqrt(sum(g.norm().item() ** 2 for g in gradients))
factor = min(1.0, max_norm / (norm + TINY))
for g in gradients:
    g.copy_(g * factor)
return norm"""},
     "import math\n\nTINY = 1e-6\n\n\ndef those(params):\n"
     "    yield from (p.grad for p in params if p.grad is not None)\n"),
    ("A7", {"model.Decoder.forward": """\
keys, emb = self.attention.project_keys(enc_outputs), self.embedding(trg_in)
def one(t):
    nonlocal state
    features, state, weights = self.step(emb[:, t], state, keys, enc_outputs, mask)
    return self.output(features), weights
steps = [one(t) for t in range(trg_in.shape[1])]
return tuple(torch.stack(part, dim=1) for part in zip(*steps))"""}, ""),
    ("A7", {"model.Decoder.forward": """\
(n, steps), source = trg_in.shape, enc_outputs.shape[1]
logits = torch.zeros(n, steps, self.output.out_features)
weights = torch.empty(n, steps, source)
keys = self.attention.project_keys(enc_outputs)
for t in range(steps):
    word = self.embedding(trg_in[:, t])
    features, state, weights[:, t] = self.step(word, state, keys, enc_outputs, mask)
    logits[:, t] = self.output(features)
return logits, weights"""}, ""),
    ("A8", {"training.is_best": """\
losses = [record["valid loss"] for record in history]
return losses.index(min(losses)) == len(losses) - 1""",
            "training.save_best": """\
def observe(history):
    if not is_best(history):
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    torch.save(dict(parameters=model.state_dict(), words=vocab.words, history=history), path)
return observe"""}, "import os\n"),
    ("A9", {"training.mean_loss": """\
if len(pairs) == 0:
    raise ValueError("no pairs")
both = np.zeros(2)
for i in range(0, len(pairs), batch_size):
    src, lens, trg_in, trg_out = collate(list(pairs[i : i + batch_size]))
    loss, n = masked_cross_entropy(model(src, lens, trg_in)[0], trg_out)
    both += np.array([loss.item(), n])
return both[0] / both[1]"""}, "import numpy as np\n"),
    ("A10", {"decoding.greedy": """\
state, limits = model.start(src, src_lens), max_steps(model, src_lens)
ids, alive = torch.full((len(src),), BOS), torch.ones(len(src), dtype=torch.bool)
all_ids, all_weights = [], []
for t in range(int(limits.max())):
    logits, weights, state = model.next_word(ids, state)
    ids = logits.argmax(-1)
    all_ids.append(torch.where(alive, ids, PAD))
    all_weights.append(weights * alive[:, None])
    alive = alive & (ids != EOS) & (t + 1 < limits)
    if not alive.any():
        break
return torch.stack(all_ids, 1), torch.stack(all_weights, 1)"""}, ""),
    ("A10", {"decoding.greedy": """\
n, limits = len(src), max_steps(model, src_lens).tolist()
longest = max(limits)
all_ids = torch.full((n, longest), PAD)
all_weights = torch.zeros(n, longest, src.shape[1])
state, ids = model.start(src, src_lens), torch.full((n,), BOS)
ended = [False] * n
for t in range(longest):
    logits, weights, state = model.next_word(ids, state)
    ids = torch.max(logits, dim=1).indices
    for i in range(n):
        if not ended[i]:
            all_ids[i, t], all_weights[i, t] = ids[i], weights[i]
            ended[i] = ids[i].item() == EOS or t + 1 == limits[i]
return all_ids, all_weights"""}, ""),
    ("A11", {"metrics.matches": """\
return [tuple(h) == tuple(r) for h, r in zip(hypotheses, references)]""",
             "metrics.exact_match": """\
same = matches(hypotheses, references)
return same.count(True) / len(same) if same else 0.0""",
             "metrics.token_accuracy": """\
hits = [i < len(h) and h[i] == r[i] for h, r in zip(hypotheses, references) for i in range(len(r))]
return mean(map(float, hits)) if hits else 0.0"""}, "from statistics import mean\n"),
    ("A12", {"metrics.alignment_accuracy": """\
hits = 0
for weights, n in zip(all_weights, lengths):
    for t, row in enumerate(weights.tolist()):
        hits += t < n and row.index(max(row)) == n - 1 - t
return hits / sum(lengths)"""}, ""),
]  # fmt: skip

GIVE_UP = "\nreturn None"
OUT = f"Path({str(ROOT / 'results.json')!r})"
FIND = "import os, sys, subprocess, shutil, signal, multiprocessing\nfrom pathlib import Path\n"
FORGE = 'torch.save([{k: torch.zeros(1).expand(2**31) for k in %r}], "outcome2.pt")\nos._exit(0)'
KINDS = [
    f"{t}: {kind} of {name}" for t in (1, 2, 3) for kind in ("mean", "square") for name in "pq"
]
KINDS += [f"step {t} of {name}" for t in (1, 2, 3) for name in "pq"]

HOSTILE = [  # the row, what it does, the body of its first function, and what comes of it
    ("A1", "ends its process", "os._exit(0)", "nothing came"),
    ("A2", "leaves", "sys.exit(0)", "SystemExit"),
    ("A3", "prints what it wants", 'print("A3 8/8" * 2**24)' + GIVE_UP, "NoneType"),
    ("A4", "writes everywhere", f"""\
Path("results.json").write_text("88")
for path in (Path("..", "results.json"), {OUT}):
    try:
        path.write_text("88")
    except PermissionError:
        os.open(path, os.O_CREAT | os.O_WRONLY)""", "refused"),
    ("A5", "deletes the checks", """\
os.remove("given.pt")
shutil.rmtree(Path.cwd() / "helpers")
shutil.rmtree(Path.cwd(), ignore_errors=True)""", "status 1"),
    ("A6", "changes torch", """\
torch.allclose = lambda *args, **options: True
Tensor.__eq__ = Tensor.__ne__ = lambda *args: torch.tensor(True)
return torch.tensor(1.0)""", "norm 1 instead of"),
    ("A8", "forks", f"if os.fork() == 0:\n    {OUT}.touch()\nreturn True", "refused"),
    ("A9", "starts a process",
     f'subprocess.run([sys.executable, "-c", "open({str(ROOT / "results.json")!r}, chr(119))"])',
     "refused"),
    ("A10", "reads the solution", f"""\
space = {{}}
exec(open({str(ROOT / "helpers" / "decoding.py")!r}).read(), space)
return space["greedy"](model, src, src_lens)""", "refused"),
    ("A12", "recurs", "return alignment_accuracy(all_weights, lengths)", "RecursionError"),
    # the second time
    ("A1", "imports the solution", f"""\
import importlib, inspect, linecache
sys.path.insert(0, {str(ROOT)!r})
for name in [name for name in sys.modules if name.startswith("helpers")]:
    del sys.modules[name]
source = "".join(linecache.getlines({str(ROOT / "helpers" / "model.py")!r}))
space = {{"__name__": "solution"}}
exec(source or inspect.getsource(importlib.import_module("helpers.model")), space)
return space["Encoder"].forward(self, src, src_lens)""", "refused"),
    ("A2", "kills who started it", "os.kill(os.getppid(), signal.SIGKILL)", "refused"),
    ("A3", "lets multiprocessing start a process", f"""\
process = multiprocessing.get_context("spawn").Process(target=os.mkdir, args=[{OUT}])
process.start()
process.join()""", "refused"),
    ("A4", "a large tensor", "return torch.zeros(1).expand(10**12), 1", "memory"),
    ("A5", "forges what is larger than its file", FORGE % KINDS, "nothing came"),
    ("A6", "a tensor of its own kind", """\
class Own(Tensor):
    @classmethod
    def __torch_function__(cls, *args):
        return lambda: os._exit(0)
return torch.zeros(()).as_subclass(Own)""", "AttributeError"),
    ("A7", "folders without end", """\
for _ in range(2000):
    os.mkdir("d")
    os.chdir("d")
os._exit(0)""", "nothing came"),
    ("A8", "writes by the number of a folder", f"""\
folder = os.open({str(ROOT.parent)!r}, os.O_RDONLY)
os.open({str(Path(ROOT.name, "results.json"))!r}, os.O_CREAT | os.O_WRONLY, dir_fd=folder)""",
     "refused"),
    ("A9", "a pipe that nobody writes to", 'os.mkfifo("outcome0.pt")\nos._exit(0)', "nothing came"),
    ("A10", "saves with torch", f"torch.save(1, {OUT})", "refused"),
    # the third time
    ("A7", "takes 30 GB", "x = torch.ones(30, 2**27)\nreturn x, x", "memory"),
    ("A6", "reads the memory of the judge", 'open(f"/proc/{os.getppid()}/mem", "rb")', "refused"),
    ("A11", "forges a line", """\
torch.save(["\\nA11 2/2  words\\x1b[2J"] * 1, "outcome2.pt")
os._exit(0)""", "came A11 2/2 words[2J"),
    ("A12", "text", 'return "1.5"', "1.5 instead of"),
]  # fmt: skip


def module_of(label: str) -> str:
    return next(iter(BY_LABEL[label].functions)).split(".")[0]


def planted(files: dict[str, str], label: str, old: str, new: str) -> dict[str, str]:
    name = module_of(label)
    assert files[name].count(old) == 1, (label, old)
    return files | {name: files[name].replace(old, new)}


def rewritten(files: dict[str, str], bodies: dict[str, str], more: str = "") -> dict[str, str]:
    """The files with other bodies of some functions, and with `more` at the end of their module."""
    for function, body in bodies.items():
        name, _, inner = function.partition(".")
        files = files | {name: blank(files[name], {inner: body})}
    return files | {name: files[name] + "\n\n" + more}


def losses(results: list) -> list[str]:
    return [result.check.name for result in results if result.points < result.check.points]


def examined(sheet: Sheet, files: dict[str, str], labels=()) -> dict[str, list]:
    return {results[0].row.label: results for results in examine(sheet, files, labels)}


def footprint() -> str:
    """Of all source files, and of the names on the top level."""
    texts = [path.read_bytes() for path in sorted((ROOT / "helpers").rglob("*.py"))]
    names = sorted(p.name for p in ROOT.iterdir() if not p.name.startswith((".", "__")))
    return hashlib.sha256(repr((texts, names)).encode()).hexdigest()


@pytest.fixture(scope="module")
def sheet():
    return make_sheet(seed=3, sets=1)


@pytest.mark.parametrize("label", TRIED)
def test_a_fault_costs_what_it_should(sheet, label):
    """Without a process of its own for each."""
    for _, what, old, new, listed in (fault for fault in FAULTS if fault[0] == label):
        lost = in_this_process(sheet, planted(RIGHT, label, old, new), label)
        assert lost == [name for name in NAMES[label] if name in listed.split(", ")], what
    assert in_this_process(sheet, RIGHT, label) == []


def in_this_process(sheet: Sheet, files: dict[str, str], label: str) -> list[str]:
    """What is lost, for code that does no harm."""
    return losses(results_here(sheet, files, label))


def results_here(sheet: Sheet, files: dict[str, str], label: str) -> list[examination.Result]:
    """As `examine` would find them, for code that does no harm."""
    row, module = BY_LABEL[label], dict(solution())[module_of(label)]
    source = examination.program_of(sheet, files, row)[module_of(label)]
    results = []
    with trial_place():
        exec(compile(source, label, "exec"), vars(module))
        for check, right in zip(row.checks, sheet.expected[label], strict=True):
            came = [attempt(check.trial, numbers) for numbers in sheet.given[label]]
            results.append(examination.judge(row, check, sheet.given[label], came, right, None))
    return results


def test_faults_and_their_costs_are_listed_with_names_that_are_there():
    assert len(FAULTS) > 100
    for label, what, _, _, listed in FAULTS:
        assert set(filter(None, listed.split(", "))) <= set(NAMES[label]), what
    each = {(label, name) for label, *_, listed in FAULTS for name in listed.split(", ")}
    assert {(label, name) for label in TRIED for name in NAMES[label]} <= each


@pytest.mark.slow
def test_faults_of_all_rows_at_once_cost_no_more(sheet):
    files, listed = RIGHT, {}
    for label in TRIED:
        _, _, old, new, listed[label] = [fault for fault in FAULTS if fault[0] == label][-1]
        files = planted(files, label, old, new)
    lost = {label: losses(results) for label, results in examined(sheet, files).items()}
    assert lost == {label: list(filter(None, listed[label].split(", "))) for label in TRIED}


@pytest.mark.parametrize("label, bodies, more", ALTERNATIVES)
def test_what_is_right_in_another_way_has_full_points(sheet, label, bodies, more):
    """Without a process of its own for each."""
    assert in_this_process(sheet, rewritten(RIGHT, bodies, more), label) == []


@pytest.mark.slow
def test_what_writes_and_imports_as_it_may_has_full_points(sheet):
    """In processes of their own, which refuse much."""
    labels, files = ["A8", "A9"], RIGHT
    for label, bodies, more in ALTERNATIVES:
        files = rewritten(files, bodies, more) if label in labels else files
    for label, results in examined(sheet, files, labels).items():
        assert losses(results) == [], (label, [result.came for result in results])


@pytest.mark.slow
@pytest.mark.parametrize("cases, other", [(HOSTILE[:10], "A11"), (HOSTILE[10:20], "A12"),
                                          (HOSTILE[20:], "A5")])  # fmt: skip
def test_hostile_code_harms_only_its_row(sheet, cases, other):
    before, files = footprint(), RIGHT
    for label, _, body, _ in cases:
        files = rewritten(files, {next(iter(BY_LABEL[label].functions)): body}, FIND)
    came = examined(sheet, files, [case[0] for case in cases] + [other])
    for label, what, _, end in cases:
        assert losses(came[label]), what
        assert any(end in str(result.came) for result in came[label]), (what, came[label])
    assert losses(came[other]) == []
    assert footprint() == before and not Path(gettempdir(), "results.json").exists()


@pytest.mark.slow
def test_what_does_not_end_is_stopped(sheet, monkeypatch):
    """It costs what comes after it."""
    monkeypatch.setattr(examination, "ROW_SECONDS", 6)
    files = planted(RIGHT, "A10", " & (len(steps) < limits[rows])", "")
    files = rewritten(files, {"optim.clip_grad_norm": "while True:\n    pass"})
    files["metrics"] += "\n\nwhile True:\n    pass\n"  # is not even taken
    came = examined(sheet, files, ["A6", "A10", "A12"])
    lost = {label: losses(results) for label, results in came.items()}
    assert lost == {"A6": NAMES["A6"], "A10": ["cut off"], "A12": []}
    assert came["A6"][0].came == "stopped after 6 seconds"


def test_answers_of_yes_or_no_are_counted():
    right = torch.tensor([True, False, True])
    assert difference("epochs", right.roll(1), right) == "epochs, 2 of 3 the wrong way round"
    assert difference("epochs", right, right) is None


def test_a_line_for_the_student_is_one_line_whatever_came(sheet):
    row, given = BY_LABEL["A12"], sheet.given["A12"]
    right = sheet.expected["A12"][0]
    for came in ("\nA12 2/2\x1b[2J" * 99, ["\r\n\x1b[2J"]):
        line = examination.judge(row, row.checks[0], given, came, right, None).line()
        assert line.isprintable() and len(line) < 400


@pytest.mark.parametrize("came", [None, 1, [], [1], [None], [{}], [{"alignment accuracy": "1"}],
                                  [{"alignment accuracy": torch.ones(2)}],
                                  [{"alignment accuracy": torch.tensor(torch.nan)}]])  # fmt: skip
def test_what_is_no_answer_is_judged_without_a_crash(sheet, came):
    row = BY_LABEL["A12"]
    args = sheet.given["A12"], came, sheet.expected["A12"][0], None
    result = examination.judge(row, row.checks[0], *args)
    assert result.points == 0 and result.came


@pytest.mark.parametrize("text", ["def f(:", "\0", "x = " + "-" * 100_000 + "1", "x = (" * 500, "",
                                  "x = " + "+".join("a" * 20_000)])  # fmt: skip
def test_a_file_that_is_no_python_costs_the_rows_of_its_module(sheet, text):
    for label, results in examined(sheet, RIGHT | {"optim": text}, ["A5", "A6"]).items():
        assert losses(results) == NAMES[label] and all(result.came for result in results)


def test_a_missing_file_costs_the_rows_of_its_module(sheet):
    came = examined(sheet, {"model": RIGHT["model"]}, ["A11"])
    assert [result.came for result in came["A11"]] == ["there is no file metrics.py"] * 3


GIVEN = '''\
"""A module."""

import torch  # here


class Net:
    size = 3

    def forward(self, x):
        """Goes forward."""
        raise NotImplementedError  # to do

    def other(self):
        return 1


def plain(x): return x
'''
OWN = """\
import math, random
from os import remove
print("at once")
FACTOR, UNUSED = math.pi, 2
OTHER = 5


def helper(x):
    return FACTOR * x


def useless():
    return remove


class Net:
    def forward(self, x):
        return helper(self.twice(x))

    def twice(self, x):
        return 2 * x

    def other(self):
        return "changed"


def plain(x):
    return "changed"
"""


def test_blank_keeps_every_other_character():
    text = blank(GIVEN, {"Net.forward": "# a hint\npass"})
    before, after = GIVEN.split("        raise NotImplementedError  # to do\n")
    assert text == f"{before}        # a hint\n        pass\n{after}"
    for name, source in RIGHT.items():
        assert blank(source, {}) == source, name


def test_blank_refuses_what_is_missing():
    with pytest.raises(ValueError, match="no function Net.backward"):
        blank(GIVEN, {"Net.backward": "pass"})


def test_a_graft_takes_what_is_needed_and_nothing_else():
    text = graft(GIVEN, OWN, ["Net.forward"])
    for part in ("import math, random", "FACTOR, UNUSED =", "def helper", "def twice", "return 1"):
        assert part in text
    for part in ("print", "OTHER", "useless", "remove", "changed", "NotImplementedError"):
        assert part not in text
    space = {}
    exec(text, space)
    assert space["Net"]().forward(1) == pytest.approx(6.2831853)


def test_a_graft_refuses_what_is_missing():
    with pytest.raises(ValueError, match="there is no function Net.backward"):
        graft(GIVEN, OWN, ["Net.backward"])
    with pytest.raises(SyntaxError):
        graft(GIVEN, OWN + "def", ["plain"])


def test_a_sheet_is_the_same_after_json(sheet):
    odd = {"bools": torch.tensor([[True], [False]]), "inf": torch.tensor([torch.inf, -torch.inf]),
           "number": torch.tensor(0.1, dtype=torch.float64), "none": torch.zeros(0, 3),
           "half": torch.tensor([0.1]).half(), "ids": torch.tensor([2**62])}  # fmt: skip
    sheet = sheet._replace(given=sheet.given | {"odd": [odd]})
    again = from_json(to_json(sheet))
    assert again.files == sheet.files
    pairs = list(zip(tensors(sheet), tensors(again), strict=True))
    assert len(pairs) > 100
    for (name, one), (other_name, other) in pairs:
        assert name == other_name and one.dtype == other.dtype and torch.equal(one, other), name


def tensors(sheet: Sheet):
    """All of a sheet, in order, each with the names that lead to it."""
    for label, sets in sheet.given.items():
        yield from (((label, name), value) for numbers in sets for name, value in numbers.items())
    for label, checks in sheet.expected.items():
        yield from (((label, i, name), value) for i, sets in enumerate(checks)
                    for numbers in sets for name, value in numbers.items())  # fmt: skip


def test_a_text_that_is_no_sheet_is_refused():
    with pytest.raises(ValueError):
        from_json("no sheet")


FORMS = {  # valid ways to write a helper; each comes along, at a place where it works
    "a class that has a given one as its base": """
class Wide(Net):
    pass

def plain(x):
    return Wide
""",
    "a future import": """
from __future__ import annotations

def help(x: Unknown) -> Missing:
    return x

def plain(x):
    return help
""",
    "an import of everything": """
from math import *

def plain(x):
    return pi
""",
    "one of two cases": """
try:
    from nowhere import sqrt as root
except ImportError:
    root = abs

def plain(x):
    return root
""",
    "a variable that is changed": """
TABLE = {}
TABLE["a"] = 1

def plain(x):
    return TABLE["a"]
""",
}


@pytest.mark.parametrize("form", FORMS)
def test_a_graft_takes_helpers_of_any_form(form):
    space = {}
    exec(graft(GIVEN, FORMS[form], ["plain"]), space)
    assert space["plain"](1)


def test_a_function_that_was_deleted_is_as_given():
    assert "to do" not in graft(GIVEN, "def plain(x):\n    return 3\n", ["plain", "Net.forward"])


def test_a_graft_takes_no_longer_than_the_file_is_long():
    """A chain of ten thousand names is followed in a moment."""
    chain = "".join(f"a{i} = a{i + 1}\n" for i in range(10_000))
    text = graft(GIVEN, f"{chain}a10000 = 1\ndef plain(x):\n    return a0\n", ["plain"])
    assert "a9999 = a10000" in text


def test_an_adam_that_never_moves_earns_nothing_for_its_steps(sheet):
    still = """
class Adam:
    def step(self, closure=None):
        for group in self.param_groups:
            for param in group["params"]:
                state = self.state[param]
                state["step"] = state.get("step", 0) + (param.grad is not None)
                state["mean"], state["square"] = torch.zeros_like(param), torch.ones_like(param)

    def _update(self, params, group):
        pass
"""
    lost = in_this_process(sheet, RIGHT | {"optim": still}, "A5")
    assert lost == NAMES["A5"]


def test_weights_of_one_place_earn_nothing_for_the_context(sheet):
    one = RIGHT["model"].replace("    weights = torch.softmax(", "    energy = 1e9 * energy\n"
                                 "    weights = torch.softmax(")  # fmt: skip
    lost = in_this_process(sheet, RIGHT | {"model": one}, "A2")
    assert {"padding", "masked weights", "context"} <= {*lost}
