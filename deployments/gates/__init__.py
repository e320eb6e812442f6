"""What must hold before a release may go to an environment: each gate says why, and what would help.

`asking` puts them together; each other file is a gate, or some that belong together. All of them are asked when it is
requested and again in the transaction that starts it, so none of them asks anything but PostgreSQL. What only the place
knows (`way_back.look`) is asked before, outside of the transaction, and handed to them.
"""
