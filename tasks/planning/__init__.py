"""What is to be made, under which key, and for which questions: decided before any work, with no Prefect and no torch.

`keys` has one function for each kind of artifact, `plan` the keys of a configuration over a corpus, `answers` the jobs
of an evaluation, and `sources` which stored corpus or translator a configuration means.
"""
