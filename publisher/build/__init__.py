"""Decides which stages are stale, and runs them side by side.

`records`  remembers what each stage was made from;
`tasks`    runs tasks that wait for each other, within a number of jobs and a memory budget;
`steps`    says what each stage needs and does;
`snippets` runs the Python of a page, with a small model in the place of its own;
`workers`  processes in which TensorFlow is imported once;
`build`    brings a selection of variants up to date.
"""
