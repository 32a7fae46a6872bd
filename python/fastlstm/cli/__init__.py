"""The command line: ``fastlstm demo | mnist | sine | info | export | bench``."""
