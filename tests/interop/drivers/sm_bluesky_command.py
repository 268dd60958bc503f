"""Run sm_bluesky's real command line: the arguments are those of ``sm-bluesky``."""

import sm_bluesky_modules

sm_bluesky_modules.prepare()

from sm_bluesky.common.cli import main  # noqa: E402

if __name__ == "__main__":
    main()
