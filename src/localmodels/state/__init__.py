"""What outlives the program beside models: keys, usage and stored responses, in files of the home, mode 0600."""
