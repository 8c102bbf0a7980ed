"""The tab *Reducible* of TensorBoard: it reads what `RankTensorBoard` wrote, without Keras."""
