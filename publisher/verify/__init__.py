"""What somebody who downloaded a model can prove about it.

Read in this order:

`findings`     what was proved, what failed, what was not looked at;
`targets`      what a person named -> archives, and what is said of them;
`downloads`    what does not lie on this machine yet;
`release`      a whole release: its index and all its digests;
`archives`     one archive: digest, safety, operations;
`signatures`   who vouches for it, how it was made, and what it consists of;
`rebuild`      the archive made again from the upstream weights;
`cross_check`  its outputs computed on roads that share no code;
`verify`       all of it, in order.
"""
