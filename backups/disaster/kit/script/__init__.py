"""The pieces of recover.py: plain Python 3.11 and boto3, nothing of this project but each other.

`kit/single_file.py` puts them together, in the order of its list, into the one file that goes into the kit.
"""
