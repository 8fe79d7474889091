"""CPython's tests of multiprocessing with "forkserver". A module by name, as its child processes want one."""

from test._test_multiprocessing import install_tests_in_module_dict  # type: ignore[import-not-found]

install_tests_in_module_dict(globals(), "forkserver")
