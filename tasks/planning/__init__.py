"""Planning: what a configuration makes, under which keys, and which questions each method answers.

Planning happens before any work, without Prefect and torch. `keys` has one function per kind of artifact, `plan` the
keys of a configuration over a corpus, `answers` the jobs of an evaluation, `training` the jobs of a translator, and
`sources` finds the stored corpus or translator that a configuration means.
"""
