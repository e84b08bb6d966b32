"""The table of the assignment: for each row what a student writes, the points, the checks, hints.

The grader, the student edition and what a student is told all follow from it.
"""

from collections.abc import Callable
from typing import NamedTuple

from helpers.course import checks
from helpers.course.checks import Dice, Judge, Numbers, same


class Check(NamedTuple):
    """A part of a row that is right or wrong by itself."""

    name: str
    points: int
    expected: str  # in words and shapes
    trial: Callable[[Numbers], Numbers]
    judge: Judge = same


class Row(NamedTuple):
    label: str
    title: str
    section: str  # that explains it
    functions: dict[str, str] = {}  # "module.function": a hint
    give: Callable[[Dice], Numbers] | None = None
    checks: tuple[Check, ...] = ()
    forbidden: tuple[str, ...] = ()  # names that do the work of the row, for the teacher to see
    to_read: int = 0  # points that the teacher gives
    rubric: tuple[str, ...] = ()  # for what

    @property
    def points(self) -> int:
        """Those that the machine gives."""
        return sum(check.points for check in self.checks)


ROWS = (
    Row(
        "A1", "encoder", "2.3",
        {"model.Encoder.forward": """\
Embed the ids (B, S, E); pack them by their lengths, in any order (enforce_sorted), so that
padding is not read; let the GRU read them; unpack to the full length S. The first state (B, H)
is the tanh of `bridge` of the last forward and the last backward state, side by side.
About 7 lines."""},
        checks.give_a1,
        (
            Check("shapes", 2, "states (B, S, 2H) and a first state (B, H)",
                  checks.encoder_shapes),
            Check("forward states", 3, "states[..., :H], of the GRU that reads from left to right",
                  checks.forward_states),
            Check("backward states", 3, "states[..., H:], the same whatever padding follows the "
                  "words, and 0 on padding; sources in any order", checks.backward_states),
            Check("first state", 2, "(B, H), from the final states of both directions",
                  checks.first_state),
        ),
    ),
    Row(
        "A2", "attention", "2.5 and 2.6",
        {
            "model.AdditiveAttention.forward": """\
v . tanh(W q + U k) for every place; the keys (B, S, A) have been multiplied by U already. The
query (B, H) needs a dimension more before the two can be added. Leave the rest to `look_up`.
About 3 lines.""",
            "model.look_up": """\
Padding gets no weight: put -inf in its place before the softmax over S. The context is the sum
of the values (B, S, 2H) with these weights (B, S). About 2 lines.""",
        },
        checks.give_a2,
        (
            Check("scores", 4, "v . tanh(W q + U k), a number (B, S) for every place",
                  checks.scores),
            Check("sum", 2, "weights (B, S) that sum to 1 over S", checks.sums),
            Check("padding", 3, "weights of exactly 0 where the mask is False",
                  checks.weights_on_padding, checks.no_padding),
            Check("masked weights", 3, "the softmax of the scores (B, S) at real words",
                  checks.masked_weights),
            Check("context", 3, "(B, 2H), the sum of the values with the weights",
                  checks.whole_context, checks.weighted_sum),
            Check("half precision", 1, "the same in 16 bits", checks.half_precision, checks.nearly),
        ),
        ("MultiheadAttention", "scaled_dot_product_attention"),
    ),
    Row(
        "A3", "decoder step", "2.7",
        {"model.Decoder.step": """\
First the state before the step asks the attention. Then the cell reads the previous word and the
context, side by side in this order, and gives the new state. The features for `output` are the
new state and the context, in this order (B, 3H). About 3 lines."""},
        checks.give_a3,
        (
            Check("query", 3, "the state before the step (B, H) asks, and keys, values and mask go "
                  "with it", checks.asks_with_old_state),
            Check("new state", 3, "(B, H), of the cell that reads the word and the context",
                  checks.new_state),
            Check("features", 2, "(B, 3H): the new state and the context; the weights come along",
                  checks.features, checks.state_and_context),
        ),
    ),
    Row(
        "A4", "loss", "3.1",
        {"training.masked_cross_entropy": """\
F.cross_entropy takes logits (N, V) and ids (N,), and can ignore the id of padding. What is
wanted is the sum over all real tokens, as a tensor with its gradient, and their number, as an
int. About 3 lines."""},
        checks.give_a4,
        (
            Check("count", 2, "the number of real tokens", checks.count_tokens),
            Check("padding", 3, "no gradient of logits (B, T, V) where the target is padding",
                  checks.gradient_on_padding),
            Check("sum", 3, "the cross-entropy, in nats, summed over the tokens",
                  checks.summed_loss),
        ),
    ),
    Row(
        "A5", "Adam", "3.2",
        {
            "optim.Adam.step": """\
For each group of `self.param_groups`: the parameters that have a gradient, to `_update`. Whoever
likes to have it all in this function may, and leaves `_update` as it is. About 8 lines.""",
            "optim.Adam._update": """\
Algorithm 1 of the paper. `self.state[param]` is a dictionary, empty at first: keep in it "step",
t, which counts from 1; "mean", m; "square", v. Both means start at 0 and are corrected by
1 - beta^t. eps is added outside the root. `group` has "lr", "betas", "eps" and "weight_decay"
(0 in the assignment). About 12 lines.""",
        },
        checks.give_a5,
        (
            Check("moments", 4, '"mean" and "square" of each parameter, of its shape, after 3 '
                  "steps", checks.moments),
            Check("missing gradients", 3, "a parameter without a gradient keeps value and moments; "
                  'each counts its own "step"', checks.without_gradient),
            Check("corrected step", 5, "with eps 0, lr times corrected mean by root of corrected "
                  "square", checks.corrected_steps, checks.follows_from_moments),
            Check("eps", 2, "added to the root, not under it", checks.late_step,
                  checks.eps_outside),
        ),
        ("Adam", "AdamW", "Adamax", "NAdam", "RAdam", "SGD", "_functional", "adam",
         "_fused_adam_", "_fused_adamw_"),
    ),
    Row(
        "A6", "clipping", "3.3",
        {"optim.clip_grad_norm": """\
One norm over all gradients together; one factor for all of them, where that norm is above
max_norm. The gradients change in place. Some parameters have none. About 5 lines."""},
        checks.give_a6,
        (
            Check("norm", 2, "the global norm before clipping, of all gradients that there are",
                  checks.norm_before, checks.roughly),
            Check("one factor", 4, "a joint norm of max_norm, in the same direction",
                  checks.clipped, checks.roughly),
            Check("short gradients", 2, "stay as they are", checks.not_clipped, checks.roughly),
        ),
        ("clip_grad_norm_", "clip_grad_value_", "clip_grads_with_norm_", "get_total_norm"),
    ),
    Row(
        "A7", "teacher forcing", "2.7 and 3.5",
        {"model.Decoder.forward": """\
Keys once for all steps, from `project_keys`. Then for each word of trg_in (B, T), embedded, one
`self.step`, which is given the state that the last one returned. `output` turns the features of
all steps into logits (B, T, V); the weights are (B, T, S). About 9 lines."""},
        checks.give_a7,
        (
            Check("logits", 3, "(B, T, V), one for each step", checks.forced_logits),
            Check("weights", 2, "(B, T, S), one row for each step", checks.forced_weights),
            Check("true words", 3, "a step reads the word of its own place, and none after it",
                  checks.true_words),
        ),
    ),
    Row(
        "A8", "best model", "3.7",
        {
            "training.is_best": """\
The last record of the history has a lower "valid loss" than all others; as low is not lower.
About 2 lines.""",
            "training.save_best": """\
Returns a function of the history. If the model is the best so far, it makes the folder and saves,
with torch.save, a dictionary of "parameters" (the state_dict), "words" (of the vocabulary) and
"history". About 6 lines.""",
        },
        checks.give_a8,
        (
            Check("which", 1, "True for an epoch with a lower validation loss than all before",
                  checks.which_is_best),
            Check("file", 2, 'after each epoch the file holds "parameters" of the best so far',
                  checks.what_is_saved),
        ),
    ),
    Row(
        "A9", "mean loss", "3.7",
        {"training.mean_loss": """\
Batch by batch (`collate`): the logits for the true previous words, then `masked_cross_entropy`.
Add up losses and tokens over all batches, and divide once. ValueError without pairs. About
10 lines."""},
        checks.give_a9,
        (
            Check("one batch", 1, "the loss by the number of real tokens", checks.one_batch),
            Check("several batches", 2, "the same, however the pairs are cut into batches",
                  checks.several_batches),
        ),
    ),
    Row(
        "A10", "greedy decoding", "4.1",
        {"decoding.greedy": """\
`model.start(src, src_lens)` gives a state; `model.next_word(ids, state)` gives logits (B, V),
weights (B, S) and the next state. The first ids are BOS, then each step reads what the one before
wrote. A sentence ends with EOS, or after `max_steps`; PAD and 0 follow. About 18 lines."""},
        checks.give_a10,
        (
            Check("words", 2, "ids (B, T), EOS included, then PAD", checks.written_words),
            Check("weights", 1, "(B, T, S), 0 after the end", checks.written_weights),
            Check("cut off", 1, "a sentence that does not end has `max_steps` words",
                  checks.cut_off),
        ),
    ),
    Row(
        "A11", "metrics", "4.3",
        {
            "metrics.matches": "Two sentences match if they are the same as lists. About 1 line.",
            "metrics.exact_match": """\
The share of `matches` that are True; 0 without sentences. About 2 lines.""",
            "metrics.token_accuracy": """\
Hits at the same place by the number of reference tokens, over all sentences. About 5 lines.""",
        },
        checks.give_a11,
        (
            Check("matches", 1, "a bool for each pair", checks.found_matches),
            Check("exact match", 1, "the share of matches, 0 without sentences",
                  checks.share_of_matches),
            Check("tokens", 2, "the share of reference tokens that stand at their place",
                  checks.share_of_tokens),
        ),
    ),
    Row(
        "A12", "alignment, heatmap", "4.4 and 4.6",
        {"metrics.alignment_accuracy": """\
For step t of a sentence of n words the right place is n - 1 - t. Count the steps, <eos> left out,
whose strongest weight is there; divide by the number of source words. About 7 lines."""},
        checks.give_a12,
        (
            Check("alignment", 2, "the share of source words at which their own step looks most",
                  checks.aligned),
        ),
        to_read=2,
        rubric=(
            "The picture is there, with the words read on the x-axis, those written on the y-axis.",
            "It is said where the weight of the rows lies (1), and words are named.",
            "It is said which rows differ from the others (1).",
            "What one picture cannot show is not claimed.",
        ),
    ),
    Row(
        "A13", "four answers", "5.1 to 5.5",
        to_read=10,
        rubric=(
            "Patterns (3): the path is described, with the share of the weight that lies on it.",
            "Alignment (2): a share of words whose strongest weight is right, and how it was "
            "counted.",
            "How attention helps (3): an experiment that changes the attention, and what became of "
            "the answers.",
            "Beginning and end (2): what the first step and that of <eos> look at, by a number.",
        ),
    ),
)  # fmt: skip

BY_LABEL = {row.label: row for row in ROWS}
EVERYWHERE = (  # names that no row needs, for the teacher to see
    "open", "exec", "eval", "compile", "__import__", "__builtins__", "globals", "importlib", "os",
    "sys", "subprocess", "socket", "ctypes", "inspect", "gc", "shutil", "signal", "threading",
    "multiprocessing", "pickle", "setattr", "getattr", "vars", "_exit", "environ", "from_file",
    "_C", "ops",
)  # fmt: skip
