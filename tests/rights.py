"""Root passes over the modes of files; commands after HEEDING do not, whoever runs the tests."""

import os

HEEDING = () if os.geteuid() else ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
