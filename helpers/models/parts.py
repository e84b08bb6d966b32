"""What the parts of a recurrent model are called; `recurrent` has what they are."""

CELLS = "gru", "lstm"
ATTENTIONS = "bahdanau", "luong", "luong-dot", "location", "none"
OUTPUTS = "linear", "readout", "tied"
