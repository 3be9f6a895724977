"""The encoder as relations: operators over blocks, and the forward pass as a text of SQL."""
