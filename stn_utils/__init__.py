"""stn_utils: the small module behind the chapters. See README.md."""
