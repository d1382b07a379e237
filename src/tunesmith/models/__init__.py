"""Models and encoders: base, tuned, remote, wrapped and scripted ones, all behind two protocols."""
