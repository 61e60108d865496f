"""What outlives the process.

    state       the sessions of all sites, to a file and back
"""
