"""Files that are whole or not there, and records in them.

May import `checks`; must not know any denoiser, no picture and no pipeline.
"""
