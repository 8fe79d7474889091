"""The package of `phalanx.concurrent.futures`."""
