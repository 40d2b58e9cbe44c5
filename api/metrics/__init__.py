"""What an operator watches: counted while requests run, or looked up when it is asked for."""
