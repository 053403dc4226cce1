"""The process and the machine below everything else: processes, time, memory, messages, and guards against surprises.

- `processes`: the processes that share a run; `forked`: one thread in a forked process.
- `process_state`: the same results, whatever random generators, dtype or modes the process has set.
- `device`: the device that a setting names; `memory`: how much memory may be taken, and freed memory given back.
- `timing`: time by phase; `progress`: bars, warnings and errors of commands; `program`: the command as it was typed.
- `foreign_pickle`: what a pickle from elsewhere may use; `git_lfs`: pointers of Git LFS in place of files.
"""
