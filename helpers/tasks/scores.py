"""Translations against references: BLEU and chrF, by sacreBLEU (Post 2018, arXiv:1804.08771)."""

from collections.abc import Sequence

Texts = Sequence[tuple[str, ...]]  # all references of each sentence


def columns(references: Texts) -> list[list[str | None]]:
    """The references as sacreBLEU wants them: the first of each sentence, the second, and so on."""
    most = max(map(len, references))
    return [[row[i] if i < len(row) else None for row in references] for i in range(most)]


def metrics() -> dict:
    """BLEU (Papineni et al. 2002) with case and sacreBLEU's own words (13a), and chrF (Popović
    2015).
    """
    from sacrebleu.metrics import BLEU, CHRF  # here, since it takes a moment

    return {"BLEU": BLEU(force=True), "chrF2": CHRF()}


def bleu(hypotheses: Sequence[str], references: Texts) -> float:
    """BLEU of the hypotheses, from 0 to 100."""
    return metrics()["BLEU"].corpus_score(list(hypotheses), columns(references)).score


def scores(hypotheses: Sequence[str], references: Texts) -> dict[str, str]:
    """BLEU and chrF, from 0 to 100, each with its signature: what it takes to repeat it."""
    result = {}
    for name, metric in metrics().items():
        result[name] = f"{metric.corpus_score(list(hypotheses), columns(references)).score:.2f}"
        result[f"{name} signature"] = str(metric.get_signature())
    return result


def compare(systems: dict[str, Sequence[str]], references: Texts) -> dict[str, str]:
    """Each system against the first, by a paired bootstrap (Koehn 2004): its scores with their 95 %
    intervals, and p, how likely so large a difference from the first is by chance.
    """
    from sacrebleu.significance import PairedTest

    named = [(name, list(hypotheses)) for name, hypotheses in systems.items()]
    test = PairedTest(named, metrics(), columns(references), test_type="bs", n_samples=1000)
    _, table = test()
    result = {}
    for kind in metrics():
        first = table[kind][0].score
        for (name, _), score in zip(named, table[kind], strict=True):
            value = f"{score.score:.2f} ± {score.ci:.2f}"
            if score.p_value is not None:  # which sacreBLEU does not know of the same score
                value += f", p = {1.0 if score.score == first else score.p_value:.4f}"
            result[f"{kind} of {name}"] = value
    return result
