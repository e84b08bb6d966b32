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

FULL = "lens, length = torch.full_like(src_lens, src.size(1)).cpu()"
COLLATE = '__import__("helpers.data", fromlist=["collate"]).collate'

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
    "encoder: padding read as words": ("model", "lens, length = src_lens.cpu()", FULL),
    "encoder: one direction twice": ("model", "[final[0], final[1]]", "[final[0], final[0]]"),
    "decoder: the state before the step predicts": (
        "model",
        "        state = self.cell(torch.cat([emb, context], dim=-1), state)\n"
        "        return torch.cat([state, context], dim=-1), state, weights",
        "        new = self.cell(torch.cat([emb, context], dim=-1), state)\n"
        "        return torch.cat([state, context], dim=-1), new, weights",
    ),
    "start: the gates of a layer drawn as one matrix": (
        "model",
        'param.split(getattr(module, "hidden_size", len(param)))',
        "[param]",
    ),
    "start: Glorot's bound times the root of two": (
        "model",
        "nn.init.xavier_uniform_(gate)",
        "nn.init.xavier_uniform_(gate, gain=2**0.5)",
    ),
    "start: a normal distribution": ("model", "xavier_uniform_(gate)", "xavier_normal_(gate)"),
    "start: embeddings of torch's size": ("model", "std=0.1", "std=1.0"),
    "start: biases as torch draws them": ("model", "nn.init.zeros_(param)", "pass"),
    # other models
    "Luong: keys not projected": (
        "models/attentions",
        "return self.general(values)",
        "return values[..., : self.query_size]",
    ),
    "Luong: one direction instead of the sum of both": (
        "models/attentions",
        ".sum(dim=-2)",
        "[..., 0, :]",
    ),
    "no attention: weights that are not 0": (
        "models/attentions",
        "values.new_zeros(mask.shape)",
        "mask / mask.sum(dim=1, keepdim=True)",
    ),
    "location: the last weights unseen": (
        "models/attentions",
        "return keys + self.location(windows)",
        "return keys + 0 * self.location(windows)",
    ),
    "location: windows off by one": (
        "models/attentions",
        "pad(previous, (width // 2, width // 2))",
        "pad(previous, (width // 2 + 1, width // 2 - 1))",
    ),
    "location: no last sentinel": (
        "models/location",
        "return framed.scatter(1, ends.unsqueeze(1), EOS), lens",
        "return framed, lens - 1",
    ),
    "recurrent: padding read as words": ("models/recurrent", "lens, length = src_lens.cpu()", FULL),
    "recurrent: no dropout in the encoder": (
        "models/recurrent",
        "nn.Dropout(dropout)\n        sizes",
        "nn.Dropout(0.0)\n        sizes",
    ),
    "recurrent: no dropout in the decoder": (
        "models/recurrent",
        "nn.Dropout(dropout)\n        self.attention",
        "nn.Dropout(0.0)\n        self.attention",
    ),
    "recurrent: dropout between the encoder's layers missing": (
        "models/recurrent",
        "dropout=dropout if layers > 1 else 0,",
        "dropout=0,",
    ),
    "recurrent: dropout when the model is used": (
        "models/recurrent",
        "emb = self.dropout(self.embedding(src))",
        "emb = nn.functional.dropout(self.embedding(src), self.dropout.p)",
    ),
    "recurrent: the second layer gets the state of the first": (
        "models/recurrent",
        "old = state[parts * i : parts * (i + 1)]",
        "old = state[:parts]",
    ),
    "recurrent: the lowest layer asks": (
        "models/recurrent",
        "self.dropout(state[-parts])",
        "self.dropout(state[0])",
    ),
    "recurrent: the first layers predict": (
        "models/recurrent",
        "            x = new[0]\n",
        "            x = new[0] if i == 0 else x\n",
    ),
    "LSTM: cell and hidden state exchanged at the start": (
        "models/recurrent",
        "zip(hidden, cell, strict=True)",
        "zip(cell, hidden, strict=True)",
    ),
    "LSTM: the cell predicts": (
        "models/recurrent",
        "            x = new[0]\n",
        "            x = new[-1]\n",
    ),
    "LSTM: the cell asks": ("models/recurrent", "state[-parts])", "state[-1])"),
    "LSTM: hidden state and cell have one bridge": (
        "models/recurrent",
        "self.cell_bridge(join(final[1]))",
        "self.bridge(join(final[1]))",
    ),
    "any length: no recipe of its own": (
        "models/__init__",
        'if flags.get("attention") != "location":',
        "if True:",
    ),
    "Transformer: sees the future": (
        "models/transformer",
        ".triu(diagonal=1)",
        ".triu(diagonal=2)",
    ),
    "Transformer: no positions": (
        "models/transformer",
        "return emb + torch.stack(",
        "return emb + 0 * torch.stack(",
    ),
    # the same, faster
    "fused: packing dropped": ("runs/fused", "state.mul_(is_word)", "state"),
    "fused: packing dropped on the way back": ("runs/fused", "d_new).mul_(is_word)", "d_new)"),
    "fused: slope of a gate": (
        "runs/fused",
        "sigmoid_backward(state - n",
        "sigmoid_backward(state + n",
    ),
    "fused: mask dropped": ("runs/fused", ".masked_fill(~mask, -torch.inf)", ""),
    "fused: no gradient through the state": (
        "runs/fused",
        "(d_state + d_new).unsqueeze(1)",
        "d_new.unsqueeze(1)",
    ),
    "fused: no gradient of Luong's keys": (
        "runs/fused",
        "d_keys.addcmul_(hidden, d_energy.transpose(1, 2))",
        "pass",
    ),
    "fused: no first state without attention": (
        "runs/fused",
        "given = words, state, cell.weight_hh",
        "given = words, state * 0, cell.weight_hh",
    ),
    "fused: Luong's attention left to the model": (
        "models/__init__",
        'and self.attention != "location"',
        'and self.attention == "bahdanau"',
    ),
    "fused: never compared": (
        "runs/fused",
        "self.agrees = self.compare(",
        "self.agrees = True or (",
    ),
    "fused: compared on single words": ("runs/fused", "[16, 9, 4, 1]", "[1, 1, 1, 1]"),
    "fused: never used": ("runs/fused", "return bool(self.agrees)", "return False"),
    # the data
    "data: target not reversed": (
        "data",
        "pairs.append((src, src[::-1]))",
        "pairs.append((src, src))",
    ),
    "data: target of integers not reversed": (
        "tasks/integers",
        "return self.sources[i], self.sources[i][::-1]",
        "return self.sources[i], self.sources[i]",
    ),
    "data: input and target not shifted": ("data", "pad([[BOS, *trg] for", "pad([[*trg, EOS] for"),
    "data: <bos> in the loss": ("data", "pad([[*trg, EOS] for", "pad([[BOS, *trg, EOS][:-1] for"),
    "data: only one side masked with <unk>": (
        "data",
        "pairs.append((src, src[::-1]))",
        "pairs.append((src, vocab.encode(sentence)[::-1]))",
    ),
    "data: seed ignored": ("data", 'random.Random(f"{seed}, {epoch}")', "random.Random(0)"),
    "data: test set in the training set": (
        "data",
        "parts.test.extend(members)",
        "parts.test.extend(members), parts.train.extend(members)",
    ),
    "data: same words in two parts": (
        "data",
        "groups.setdefault(group(item), [])",
        "groups.setdefault(len(groups), [])",
    ),
    "data: vocabulary of the test set": (
        "data",
        "vocab = Vocab.build(parts.train)",
        "vocab = Vocab.build(parts.train + parts.test)",
    ),
    "data: validation set masked": (
        "data",
        "reversal_pairs(parts.valid, vocab)",
        "reversal_pairs(parts.valid, vocab, unk_rate, seed)",
    ),
    "patterns: continuation off by one": (
        "tasks/patterns",
        "(len(digits) + i) % n",
        "(len(digits) + i + 1) % n",
    ),
    # learning
    "loss: padding counts": ("training", '"ignore_index": PAD', '"ignore_index": -100'),
    "loss: padding in the number of tokens": (
        "training",
        "int((trg_out != PAD).sum())",
        "trg_out.numel()",
    ),
    "loss: no label smoothing": ("runs/losses", '"label_smoothing": smoothing, ', ""),
    "loss: a teacher's opinion on padding": (
        "runs/losses",
        "per_token[trg_out != PAD]",
        "per_token",
    ),
    "train_step: gradients pile up": ("training", "    optimizer.zero_grad()\n", ""),
    "train_step: no clipping": (
        "training",
        "    clip_grad_norm(model.parameters(), max_norm)\n",
        "",
    ),
    "train_step: the sum instead of the mean": ("training", "(loss / tokens).", "loss."),
    "train: a mean of the batches' means": (
        "training",
        "total, tokens = total + loss, tokens + count",
        "total, tokens = total + loss / count, tokens + 1",
    ),
    "train: begins again instead of going on": (
        "training",
        "range(len(history) + 1, epochs + 1)",
        "range(1, epochs + 1)",
    ),
    "train: nobody can end it": (
        "training",
        "if any([observe(history) is True for observe in observers]):",
        "if [observe(history) for observe in observers] is None:",
    ),
    "train: who ends it keeps it from the others": (
        "training",
        "if any([observe(history) is True for observe in observers]):",
        "if any(observe(history) is True for observe in observers):",
    ),
    "training: weights not snapped": ("training", "torch._foreach_round_(params)", "pass"),
    "training: every epoch is saved as the best": (
        "training",
        "        if is_best(history):\n",
        "        if True:\n",
    ),
    "training: best is the highest loss": (
        "training",
        'last["valid loss"] < record["valid loss"]',
        'last["valid loss"] > record["valid loss"]',
    ),
    "a loss that is no number": ("training", "if not isfinite(loss):", "if False:"),
    "a validation loss that is no number": (
        "training",
        'if not isfinite(record["valid loss"]):',
        "if False:",
    ),
    "learning: gradients pile up": ("runs/step", "        self.optimizer.zero_grad()\n", ""),
    "learning: no clipping": (
        "runs/step",
        "clip_grad_norm(self.model.parameters(), self.max",
        "clip_grad_norm(self.model.parameters(), 1e9 + self.max",
    ),
    "learning: clipping of the scaled gradient": (
        "runs/step",
        "        self.scaler.unscale_(self.optimizer)  #",
        "        #",
    ),
    "learning: an overflow without end": (
        "runs/step",
        "elif self.scaler.get_scale() < SMALLEST_SCALE:",
        "elif False:",
    ),
    "learning: rate never falls": (
        "runs/step",
        "                self.schedule.step()\n",
        "                pass\n",
    ),
    "learning: weights not snapped": ("runs/step", "            snap_to_grid(self.model)\n", ""),
    "learning: teacher ignored": (
        "runs/step",
        "loss = (loss + soft_cross_entropy(logits, likely, batch.trg_out)) / 2",
        "pass",
    ),
    "learning: dropout never on": ("runs/step", "        self.model.train()  #", "        #"),
    "learning: dropout left on": ("runs/step", "        self.model.eval()\n", ""),
    "learning: every word the true one": (
        "runs/step",
        "torch.rand(batch.trg_in.shape) < self.forcing",
        "torch.rand(batch.trg_in.shape) < max(1.0, self.forcing)",
    ),
    "learning: accumulated parts weigh the same": (
        "runs/step",
        "self.scaler.scale(loss / tokens)",
        "self.scaler.scale(loss / parts / int((part.trg_out != PAD).sum()))",
    ),
    "learning: padding in the number of tokens": (
        "runs/step",
        "int((batch.trg_out != PAD).sum())",
        "batch.trg_out.numel()",
    ),
    "learning: a part left out": (
        "runs/step",
        "range(rank(), parts, world_size())",
        "range(rank(), max(1, parts - 1), world_size())",
    ),
    "learning: the plateau is not told": (
        "runs/step",
        "            self.schedule.step(valid_loss)\n",
        "            pass\n",
    ),
    "learning: the rate falls to zero": ("runs/step", "optimizer.lr_floor * optimizer.lr", "0.0"),
    "learning: all words masked alike": (
        "runs/step",
        "torch.rand(batch.trg_in.shape) < self.forcing",
        "torch.rand(len(batch.trg_in), 1).expand(batch.trg_in.shape) < self.forcing",
    ),
    "own words: always the first": (
        "runs/sampling",
        "all_logits[-1].argmax",
        "all_logits[0].argmax",
    ),
    "own words: forced one step late": ("runs/sampling", "forced[:, t],", "forced[:, t - 1],"),
    "own words: the true word of another step": (
        "runs/sampling",
        "trg_in[:, t],",
        "trg_in[:, t - 1],",
    ),
    "run: validation on the training set": (
        "runs/loop",
        "mean_loss(self.model, pairs, size)",
        "mean_loss(self.model, data.pairs.train, size)",
    ),
    "run: the exact match of training sentences": (
        "runs/loop",
        "part.valid[share] for part in (data.sentences,",
        "part.train[share] for part in (data.sentences,",
    ),
    "exact match: teacher forcing": (
        "decoding",
        "[answer.ids for answer in decode(model, sources, batch_size)]",
        "[model(*" + COLLATE + "([pair])[:3])[0].argmax(-1)[0, :-1].tolist() for pair in pairs]",
    ),
    "run: patience of one epoch less": (
        "runs/loop",
        "0 < settings.patience <= w",
        "0 < settings.patience - 1 <= w",
    ),
    "run: the smallest difference ignored": (
        "runs/loop",
        "settings.min_delta or 0.0",
        "0.0",
    ),
    "run: the last epoch left out": (
        "runs/loop",
        "len(history) >= settings.epochs or",
        "len(history) >= settings.epochs - 1 or",
    ),
    "run: never ended early": (
        "runs/loop",
        "*run.observers, partial(is_over, settings=run_settings)]",
        "*run.observers]",
    ),
    "run: an observer is called before the epoch is saved": (
        "runs/loop",
        "observers += [tell, *run.observers, partial",
        "observers = [*run.observers, *observers, tell, partial",
    ),
    "run: teacher forcing never falls": (
        "runs/settings",
        "start if end is None else start + way * (end - start)",
        "start",
    ),
    "run: teacher forcing falls, but nobody is told": (
        "runs/loop",
        "        self.learner.forcing = run.forcing_in(epoch)\n",
        "",
    ),
    "curves: those of a run that was broken off stay": (
        "runs/logs",
        "SummaryWriter(log_dir, purge_step=done + 1)",
        "SummaryWriter(log_dir)",
    ),
    "curves: the steps of a resumed run begin at 1": (
        "runs/loop",
        "Log(log_dir, run.steps * len(history))",
        "Log(log_dir)",
    ),
    "resume: moments forgotten": (
        "runs/step",
        '        self.optimizer.load_state_dict(state["optimizer"])\n',
        "",
    ),
    "resume: random numbers forgotten": (
        "runs/step",
        '        torch.set_rng_state(state["random"])\n',
        "",
    ),
    "resume: corpus forgotten": (
        "runs/loop",
        "self.corpus = saved.corpus if saved else Corpus.of(corpus)",
        "self.corpus = None",
    ),
    "resume: data not compared": ("runs/loop", "if saved.digest != self.digest:", "if False:"),
    "checkpoint: best is the last": (
        "runs/checkpoint",
        '*(["best.pt"] if best else [])',
        '"best.pt"',
    ),
    "checkpoint: settings not compared": (
        "runs/loop",
        "            saved.settings.check_same(settings)\n",
        "",
    ),
    "checkpoint: code is run": ("runs/checkpoint", "weights_only=True", "weights_only=False"),
    "checkpoint: written in place": (
        "runs/checkpoint",
        "beside = path.with_name(path.name + TMP)",
        "beside = path",
    ),
    "checkpoint: another precision": ("runs/checkpoint", ".to(settings.run.dtype)", ""),
    "checkpoint: another format": (
        "runs/checkpoint",
        'if content["format"] != FORMAT:',
        "if False:",
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
    "decoding: answers in another order": (
        "decoding",
        "    return [answers[i] for i in range(len(sources))]\n",
        "    return list(answers.values())\n",
    ),
    "spelling: from the weakest weight": ("decoding", "max(places, key=", "min(places, key="),
    "beam: scores not accumulated": (
        "search/beam",
        "scores.unsqueeze(1) + log_probs, lengths",
        "log_probs, lengths",
    ),
    "beam: penalty upside down": ("search/beam", "ratings = totals / (", "ratings = totals * ("),
    "beam: weights of another beam": (
        "search/beam",
        "weights.unsqueeze(1)], dim=1)[chosen]",
        "weights.unsqueeze(1)], dim=1)",
    ),
    "beam: ended ones go on": (
        "search/beam",
        "log_probs[:, PAD].masked_fill_(done, 0.0)",
        "log_probs[:, EOS].masked_fill_(done, 0.0)",
    ),
    "beam: no length penalty": (
        "search/beam",
        "beam_search, width=width, penalty=penalty",
        "beam_search, width=width, penalty=0.0",
    ),
    "copying: ends one word early": (
        "search/copying",
        "done = done | (places == 0) |",
        "done = done | (places <= 1) |",
    ),
    "copying: the last place is not fed back": (
        "search/copying",
        "(seen == last).to(nowhere.dtype)",
        "(seen == -1).to(nowhere.dtype)",
    ),
    "copying: the edge of what is seen counts like any place": (
        "search/copying",
        "if (edge := edge & ~done).any():",
        "if False:",
    ),
    "copying: all look at the whole source where one has to": (
        "search/copying",
        "torch.where(edge, *both) for both",
        "both[0] for both",
    ),
    "pieces: of a source with padding": (
        "models/recurrent",
        "alone = len(src) == 1 and src_lens[0] == src.size(1) > LONG",
        "alone = len(src) == 1 and src.size(1) > LONG",
    ),
    "memory: of a machine that does not say": (
        "commands/answering",
        "if pages > 0 else inf",
        "if pages else inf",
    ),
    "rare words: small numbers": (
        "search/spelling",
        "sum(map(str.isdigit, text)) >= 3",
        "sum(map(str.isdigit, text)) >= 1",
    ),
    "GPU: cells in float16 without a scale": (
        "runs/step",
        "== torch.float16 or has_cells(model)",
        "== torch.float16",
    ),
    "copying: each step looks at the whole source": (
        "search/copying",
        "places, after, min(2 * side + 1, size)",
        "places, after, size",
    ),
    "pieces: the next begins anew": (
        "models/recurrent",
        "y, final = one(x.flip(1) if back else x, final)",
        "y, final = one(x.flip(1) if back else x)",
    ),
    "a line without a limit": (
        "commands/answering",
        "limit = limit_of_memory(loaded) if of_any_length else LIMIT",
        "limit = inf",
    ),
    "long sentences are read 500 at a time": (
        "search/answers",
        "len(block) == size or words > BLOCK_WORDS",
        "len(block) == size",
    ),
    "memory: freed and kept": (
        "runs/device",
        'ctypes.CDLL("libc.so.6").malloc_trim(0)',
        "pass",
    ),
    "measuring: the vocabulary takes no memory": (
        "runs/loop",
        "LOGITS // (longest * len(data.trg_vocab))",
        "LOGITS // longest",
    ),
    "curves: those of the epochs are two": (
        "runs/logs",
        'if name.startswith("valid "):',
        'if name in ("valid loss", "valid exact match"):',
    ),
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
    "heatmap: every picture has a scale of its own": ("plotting", '"vmin": 0, "vmax": 1, ', ""),
    "figure: nothing for whoever cannot see it": (
        "notebook",
        'metadata={"image/png": {"alt": alt}}',
        "metadata={}",
    ),
    # what may go wrong
    "folder: claimed by everybody": (
        "runs/checkpoint",
        "claims.enter_context(FileLock(path, timeout=0, is_singleton=True))",
        "FileLock(path, timeout=0, is_singleton=True)",
    ),
    "checkpoint: checksums not compared": (
        "runs/checkpoint",
        "if zipfile.ZipFile(io.BytesIO(data)).testzip():",
        "if not zipfile.ZipFile(io.BytesIO(data)).namelist():",
    ),
    "settings: NaN": (
        "runs/fields",
        'elif not limits["low"] <= value <= limits["high"]',
        'elif value < limits["low"] or value > limits["high"]',
    ),
    "settings: too small": (
        "runs/fields",
        'elif not limits["low"] <= value',
        "elif not -1e9 <= value",
    ),
    "settings: one of another kind accepted in silence": (
        "runs/settings",
        "for name in sorted(flags.keys() - KINDS.keys() - known):",
        "for name in []:",
    ),
    "settings: one that needs another accepted in silence": (
        "runs/fields",
        "if lacking and value is not None:",
        "if False:",
    ),
    "settings: a difference without patience accepted in silence": (
        "runs/settings",
        '"patience": range(1, 10_001)',
        '"patience": range(10_001)',
    ),
    "settings: half precision in float64 accepted in silence": (
        "runs/settings",
        'if self.amp and self.precision != "float32":',
        "if False:",
    ),
    "settings: a task that cannot be copied": (
        "runs/settings",
        "if self.model.copies and not self.task.mirrors:",
        "if False:",
    ),
    "settings: float64 whatever is asked for": (
        "runs/settings",
        "return getattr(torch, self.precision)",
        "return torch.float64",
    ),
    "benchmark: upside down": (
        "commands/benchmark",
        "return slower / faster",
        "return faster / slower",
    ),
    "benchmark: the textbook sorts, too": (
        "commands/benchmark",
        "eight(*kind, bucket=bucket), fast",
        "eight(*kind), fast",
    ),
    "benchmark: ten times the share": (
        "commands/benchmark",
        "return data / (data + 10 * steps)",
        "return data / (data + steps)",
    ),
    "seeds: equal sentences count once": ("commands/seeds", "return sum(n for", "return sum(1 for"),
    "lines: any length": ("commands/answering", "if len(tokens) > limit:", "if len(tokens) > 1e9:"),
    "reverse: the plain model comes first": (
        "commands/answering",
        "if plain.task.mirrors else []",
        "if False else []",
    ),
    # kinds of fault that users report: see test_reports.py
    "heatmap: words are formulas": (
        "plotting",
        "src[::gap], parse_math=False,",
        "src[::gap],",
    ),
    "heatmap: all labels, however many": ("plotting", "ceil(0.19 / cell)", "1"),
    "curves: a picture ends the run": (
        "runs/logs",
        "except Exception as error:  # fonts",
        "except ValueError as error:  # fonts",
    ),
    "curves: a warning for each character": ("runs/logs", 'action="ignore"', 'action="always"'),
    "decoding: no answer longer than its source allows": (
        "decoding",
        ".clamp(min=model.longest)",
        "",
    ),
    "answers: what was cut off has ended": (
        "search/answers",
        "return len(answer.weights) > len(answer.ids)",
        "return True",
    ),
    "checkpoint: the longest answer forgotten": (
        "runs/checkpoint",
        'model.longest = content["longest"]',
        "pass",
    ),
    "run: a score of 0 is a plateau": ("runs/loop", "if best == 0 or score", "if score"),
    "run: a tie is never won": (
        "runs/loop",
        "tie_won = score == best < 1",
        "tie_won = score == best < 0",
    ),
    "translation: numbers fall apart": ("tasks/tokens", "[.,:/-](?=\\d)", "[.](?=\\d)"),
    "translation: marks fall off": ("tasks/tokens", '[0] == "M"', '[0] == "X"'),
    "translation: what cannot be seen is a token": (
        "tasks/tokens",
        'not in ("Cf", "Cc")',
        "not in ()",
    ),
    "translation: quotes do not close": (
        "tasks/tokens",
        "quoted[token] = not quoted[token]",
        "quoted[token] = False",
    ),
    "translation: capitals are lost": (
        "tasks/tokens",
        "TOKEN.findall(plain(text))",
        "TOKEN.findall(plain(text).lower())",
    ),
    "evaluate: texts compared as tokens": (
        "commands/evaluate",
        "as_text = task.right_lines(lines, examples.texts)",
        "as_text = matches(hypotheses, examples.references)",
    ),
    "evaluate: only the first reference": (
        "tasks/scores",
        "most = max(map(len, references))",
        "most = 1",
    ),
    "subwords: accents in two parts": (
        "tasks/subwords",
        'unicodedata.normalize("NFC", ',
        'unicodedata.normalize("NFD", ',
    ),
    "subwords: what is rare is unknown": (
        "tasks/subwords",
        "byte_fallback=True",
        "byte_fallback=False",
    ),
    "subwords: the least size is another": (
        "tasks/subwords",
        '.union(*map(normal, lines)) - {" "}',
        ".union(*map(normal, lines))",
    ),
    "subwords: spaces lost": (
        "tasks/subwords",
        "remove_extra_whitespaces=False",
        "remove_extra_whitespaces=True",
    ),
    "rare words: not copied": (
        "search/answers",
        "return spell_rare(tokens, words, answer.weights, vocab, trg_vocab)",
        "return words",
    ),
    "rare words: bytes stand nowhere": ("tasks/subwords", "max(len(part.surface), 1)", "1"),
    "rare words: weights of the last piece only": (
        "search/spelling",
        "weights[word.pieces][:, places].sum(dim=1).mean()",
        "weights[word.pieces][:, places[-1]].mean()",
    ),
    "rare words: weights of all pieces of the answer added up": (
        "search/spelling",
        ".sum(dim=1).mean()",
        ".sum()",
    ),
    "rare words: any weight is enough": ("search/spelling", "LEAST = 0.5", "LEAST = 0.0"),
    "rare words: the weakest place": (
        "search/spelling",
        "most = max(shares",
        "most = min(shares",
    ),
    "rare words: one place for all": ("search/spelling", "if word.start not in copied and", "if"),
    "rare words: what is right is written again": (
        "search/spelling",
        "if is_written(text, line, words):",
        "if False:",
    ),
    "rare words: numbers of French are spoilt": (
        "search/spelling",
        'r"\\D{,3}".join(digits)',
        '"".join(digits)',
    ),
    "rare words: times of French are spoilt": (
        "search/spelling",
        'CLOCK if ":" in text',
        'CLOCK if "/" in text',
    ),
    "rare words: digits of an address are a number": (
        "search/spelling",
        "digits = [] if is_address(text) else [",
        "digits = [",
    ),
    "rare words: numbers in the place of any word": (
        "search/spelling",
        "        return any(map(str.isdigit, word.text))\n",
        "        return True\n",
    ),
    "rare words: names in the place of frequent words": (
        "search/spelling",
        "return len(word.pieces) > 1 and",
        "return",
    ),
    "rare words: elided words are replaced": (
        "search/spelling",
        """ and word.text[-1] != "'\"\n""",
        "\n",
    ),
    "rare words: frequent names are rare": ("search/spelling", "name = spelled and", "name ="),
    "rare words: the first word is a name": ("search/spelling", "not begins and", "True and"),
    "rare words: a title ends a sentence": (
        "search/spelling",
        " and before not in TITLES",
        "",
    ),
    "rare words: Tom's is no Tom": ("search/spelling", '.removesuffix("\'s")', ""),
    "corpus: tested on what was trained on": (
        "tasks/translation",
        "train = [row for row in rows if row.key not in known]",
        "train = rows",
    ),
    "corpus: what is cut off in vain is lost": (
        "tasks/translation",
        "(train if given else given).extend(other)",
        "given.extend([] if given else other)",
    ),
    "corpus: chosen by the test": (
        "tasks/translation",
        "row for row in valid if row.key not in tested",
        "row for row in valid",
    ),
    "checkpoint: references may change": (
        "runs/checkpoint",
        "texts = (data.texts,) if data.texts else ()",
        "texts = ()",
    ),
    "corpus: pieces from all parts": (
        "tasks/translation",
        "list(zip(*parts.train, strict=True))[1:3]",
        "list(zip(*(parts.train + parts.test), strict=True))[1:3]",
    ),
    "corpus: a second translation is lost": (
        "tasks/translation",
        "first._replace(texts=first.texts + row.texts)",
        "first",
    ),
    "readout: its own matrix": (
        "models/recurrent",
        "self.words.weight = embedding.weight",
        "pass",
    ),
    "readout: no previous word": (
        "models/recurrent",
        "seen = [emb] if",
        "seen = [emb * 0] if",
    ),
    "fused: dropout not in the gradient of the query": (
        "runs/fused",
        "d_state.addcmul_(d_q.squeeze(1) @ weight[gates:], kept)",
        "d_state.add_(d_q.squeeze(1) @ weight[gates:])",
    ),
    "large output: no smoothing in the gradient": (
        "runs/losses",
        ".sub_(smoothing / size)",
        "",
    ),
    "batches: too many tokens": (
        "runs/batching",
        "length * (i + 1 - cuts[-1]) > tokens",
        "length * (i - cuts[-1]) > tokens",
    ),
    "warm-up: none": ("runs/step", "            if rise:", "            if False:"),
    "folder: a file of somebody else is taken for ours": (
        "runs/checkpoint",
        "if not (OURS.fullmatch(path.name) and is_ours(path)) and",
        "if not OURS.fullmatch(path.name) and",
    ),
    "folder: all that looks like an epoch is removed": (
        "runs/checkpoint",
        "if OURS.fullmatch(path.name) and path.name not in",
        "if path.name not in",
    ),
    "corpus: the wrong number of long sentences": (
        "tasks/task",
        "{left_out} of more than",
        "{lines} of more than",
    ),
    "exact match: of ids": (
        "search/answers",
        "return matches([answer.words for answer in answers], references)",
        "ids = [data.trg_vocab.encode(answer.words) for answer in answers]\n"
        "    return matches(ids, [data.trg_vocab.encode(words) for words in references])",
    ),
    "command line: all that speaks of memory lacks it": (
        "runs/device",
        "return isinstance(error, kinds) or says",
        'return isinstance(error, kinds) or "memory" in str(error)',
    ),
    "command line: Ctrl-C in an import": (
        "__main__",
        "signal.signal(signal.SIGINT, stop if before is signal.default_int_handler else before)",
        "signal.signal(signal.SIGINT, before)",
    ),
    "command line: whoever asks for help waits for torch": (
        "runs/settings",
        "from typing import TYPE_CHECKING\n",
        "from typing import TYPE_CHECKING\n\nimport torch\n",
    ),
    "command line: each command imports all of them": (
        "commands/answering",
        "from helpers.commands.heatmap import DRAWN, draw\n",
        "import helpers.commands.train\nfrom helpers.commands.heatmap import DRAWN, draw\n",
    ),
    "command line: an import can be broken off in silence": (
        "commands/__init__",
        '    run = import_module(f"helpers.commands.{args.command}").run\n    ready()\n',
        '    ready()\n    run = import_module(f"helpers.commands.{args.command}").run\n',
    ),
    "command line: an argument of any bytes": (
        "commands/answering",
        "        argument.encode()\n",
        "        argument.encode(errors='surrogateescape')\n",
    ),
    "command line: only the first line is warned of": (
        "commands/answering",
        "if count > 1:",
        "if count > 1000:",
    ),
    "command line: unknown words have no names": (
        "commands/answering",
        "distinct[:3]",
        "distinct[:0]",
    ),
    "train: the folder of curves is claimed by nobody": (
        "runs/loop",
        "with checkpoint.claim(folder, log_dir):",
        "with checkpoint.claim(folder):",
    ),
    "train: curves by the last name alone": (
        "commands/train",
        'return folder / "runs"',
        'return Path("runs", path.name)',
    ),
    "checkpoint: folders must open": (
        "runs/checkpoint",
        "except PermissionError:\n        return",
        "except ZeroDivisionError:\n        return",
    ),
    "checkpoint: a file must not be open": (
        "runs/checkpoint",
        "for pause in (0.1, 0.3, 0.6, 1.0):",
        "for pause in ():",
    ),
    "settings: steps that the grid swallows": (
        "runs/settings",
        "            self.optimizer.check_grid()\n",
        "            pass\n",
    ),
    "learning: a loss that half precision cannot hold ends the run": (
        "runs/step",
        "elif not isfinite(loss):",
        "elif False:",
    ),
    "command line: a large cache of products": (
        "__main__",
        '("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")',
        '("ONEDNN_PRIMITIVE_CACHE_CAPACITY",)',
    ),
    # the processes in which rows are tried
    "nursery: a child keeps the line": ("course/runner", "            line.close()\n", ""),
    "nursery: a child in its session": ("course/runner", "os.setsid()", "pass"),
    "nursery: in the folder of the first row": ("course/runner", "os.chdir(folder)", "pass"),
    "nursery: a home of the first row": ("course/runner", 'os.environ["HOME"] = folder', "pass"),
    "nursery: limits of another process": (
        "course/runner",
        'REFUSED += ("resource.prlimit",)',
        "REFUSED += ()",
    ),
    "nursery: priority of another process": ("course/runner", ', (os, "setpriority")', ""),
    "nursery: what was stopped runs on": (
        "course/examine",
        '            return f"stopped after',
        '            child = None\n            return f"stopped after',
    ),
    "nursery: helpers of ours in reach": ("course/examine", '"-u", "-P",', '"-u",'),
    "nursery: none in the place of one that died": (
        "course/examine",
        "        except (EOFError, OSError):\n            self.close()\n",
        "        except (EOFError, OSError):\n            raise\n",
    ),
    "nursery: a signal is no status": (
        "course/runner",
        "os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])",
        "os.WEXITSTATUS(os.waitpid(child, 0)[1])",
    ),
    "nursery: threads before the fork": (
        "course/runner",
        "    line = Connection(0)\n",
        "    line = Connection(0)\n"
        "    __import__('threading').Thread(target=signal.pause, daemon=True).start()\n",
    ),
    "nursery: a new one for each row": (
        "course/examine",
        "if status is None or not FORKS:",
        "if True:",
    ),
    "nursery: its child survives it": ("course/examine", "if child:", "if child and status == 0:"),
    "nursery: left when all is done": (
        "course/examine",
        "            nursery.close()\n",
        "            pass\n",
    ),
    "nursery: left when it is broken off": (
        "course/examine",
        """    finally:
        for nursery in nurseries""",
        """    except ValueError:
        for nursery in nurseries""",
    ),
    # on a GPU
    "GPU: a mask on the CPU": (
        "model",
        "torch.arange(src.size(1), device=src.device) < lens",
        "torch.arange(src.size(1)) < lens",
    ),
    "GPU: places on the CPU": (
        "models/transformer",
        "emb.size(1), device=emb.device)",
        "emb.size(1))",
    ),
    "GPU: words that come by the CPU": (
        "models/recurrent",
        "x, new_state = torch.cat([emb, context], dim=-1), []",
        "x, new_state = torch.cat([emb.cpu().to(ids.device), context], dim=-1), []",
    ),
    "GPU: lengths that must come back": (
        "data",
        "Batch(src, self.src_lens, *trg)",
        "Batch(src, self.src_lens.to(device), *trg)",
    ),
    "GPU: every loss is asked for": (
        "runs/step",
        "Tensor.item if self.in_numbers",
        "Tensor.item if True",
    ),
    "GPU: batches that are waited for": (
        "runs/step",
        "Batch(*map(Tensor.pin_memory, part))",
        "part",
    ),
    "GPU: the shortest source first": (
        "runs/step",
        "src_lens.argsort(descending=True)",
        "src_lens.argsort()",
    ),
    "GPU: words that are not sorted with their batch": (
        "runs/step",
        "None if forced is None else forced[order]",
        "forced",
    ),
    "GPU: bfloat16 with a scaler": ("runs/step", "run.amp and needs_scale", "run.amp"),
    "GPU: bfloat16 where it is emulated": (
        "runs/device",
        "including_emulation=False",
        "including_emulation=True",
    ),
    "GPU: the end of an epoch is read in the next": (
        "runs/loop",
        "if len(unread) == size or (log.done + len(unread)) % run.steps == 0:",
        "if len(unread) == size:",
    ),
    "GPU: a failure is named by what was read last": (
        "runs/loop",
        "divmod(log.done + len(unread), run.steps)",
        "divmod(log.done, run.steps)",
    ),
    "GPU: no answer comes from there": (
        "commands/answering",
        "    loaded.model.to(device)\n",
        "",
    ),
    "GPU: a picture of what stays there": (
        "commands/heatmap",
        "weights[0, : len(output)].cpu()",
        "weights[0, : len(output)]",
    ),
    "grade: a table has commas": (
        "course/grading",
        'for self.delimiter in ",;\\t":',
        'for self.delimiter in ",\\t":',
    ),
    "grade: a second copy is not seen": (
        "course/grading",
        '("helpers", "helpers ([0-9]*)")',
        '("helpers",)',
    ),
    "flags: a mistake points to the help of all commands": (
        "course/flags",
        "        if unknown:\n",
        "        if False:\n",
    ),
}


TESTS = {  # of a file, where they are not in the one of the same name
    "__main__": ["cli", "reports"],
    "data": ["data", "fake_cuda"],
    "decoding": ["decoding", "training", "reports"],
    "model": ["model", "models", "fake_cuda"],
    "plotting": ["plotting", "reports"],
    "models/__init__": ["settings", "models"],
    "models/location": ["recurrent", "copying"],
    "models/recurrent": ["recurrent", "models", "fake_cuda"],
    "models/transformer": ["transformer", "models", "fake_cuda"],
    "runs/checkpoint": ["checkpoint", "reports"],
    "runs/device": ["loop", "fake_cuda", "reports"],
    "runs/fields": ["settings", "properties"],
    "runs/logs": ["loop", "reports"],
    "runs/loop": ["loop", "fake_cuda", "reports"],
    "runs/settings": ["settings", "cli", "reports"],
    "runs/step": ["step", "loop", "fake_cuda", "reports"],
    "search/answers": ["answers", "spelling", "reports"],
    "tasks/integers": ["tasks"],
    "tasks/patterns": ["tasks"],
    "tasks/subwords": ["subwords", "spelling"],
    "tasks/task": ["tasks", "reports"],
    "tasks/tokens": ["tasks", "french", "reports"],
    "tasks/translation": ["tasks", "reports"],
    "course/runner": ["examine"],
    "commands/__init__": ["cli", "reports"],
    "course/flags": ["cli"],
    "commands/answering": ["fake_cuda", "cli", "faults", "reports"],
    "commands/heatmap": ["fake_cuda", "cli", "reports"],
    "commands/evaluate": ["cli", "reports"],
    "commands/train": ["cli", "reports"],
}


def first_failure(root: Path, *args: str) -> str | None:
    """Which test fails first, if any, when pytest is given these arguments; half an hour is enough.
    Raises RuntimeError if pytest itself fails, or if a file cannot even be imported: that would be
    no find.
    """
    command = [sys.executable, "-m", "pytest", *args, "-x", "-q", "-p", "no:cacheprovider"]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=1800)
    except subprocess.TimeoutExpired:
        return "the time limit"
    failure = re.search(r"^(?:FAILED|ERROR) (.+?::.+?)(?: - |$)", done.stdout, re.M)
    if bool(failure) != bool(done.returncode):
        raise RuntimeError(f"{' '.join(command)} ends with status {done.returncode}")
    return failure and failure[1]


def left_out(folder: str, names: list[str]) -> list[str]:
    """What is not copied: what only a run has made."""
    results = [".git", ".venv", "checkpoints", "runs"] if Path(folder) == ROOT else []
    return [name for name in names if name in [*results, "__pycache__"]]


def caught_by(what: str) -> str | None:
    """Which test fails first in a copy of the project with that fault, if any."""
    name, right, wrong = FAULTS[what]
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place, "copy")
        shutil.copytree(ROOT, copy, ignore=left_out)
        file = copy / "helpers" / f"{name}.py"
        text = file.read_text(encoding="utf-8")
        file.write_text(text.replace(right, wrong, 1), encoding="utf-8")
        tests = TESTS.get(name, [Path(name).name])
        nearest = [f"helpers/tests/test_{test}.py" for test in tests]
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
    tests = []
    with ThreadPoolExecutor(2) as two:
        for what, test in zip(chosen, two.map(caught_by, chosen), strict=True):
            tests.append(test)
            print(f"{what}: {f'caught by {test}' if test else 'SURVIVES'}", flush=True)
    survivors = tests.count(None)
    print(f"{len(chosen)} faults, {survivors} survive")
    # a cell of a notebook cannot run alone: for these, the test command must have been seen to pass
    alone = sorted({test for test in tests if test and test.startswith("helpers/")})
    if alone and (failed := first_failure(ROOT, "-n", "0", *alone)):
        print(f"{failed} fails without any fault, too: its finds do not count", file=sys.stderr)
        return 2
    return int(survivors > 0)


if __name__ == "__main__":
    sys.exit(main())
