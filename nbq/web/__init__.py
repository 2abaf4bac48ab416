"""The web page: a process beside the hub that shows it to a browser, and lets it be steered.

It is a client of the hub, with a viewer's key unless it is told otherwise. It never unpickles anything, keeps
no state of its own but the last minutes of its charts, and asks the hub nothing while nobody looks.
"""
