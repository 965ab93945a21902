"""The main job: ``python run_recbole_hns.py --model=BPR --dataset=ml-100k --sampler=dns_mn``."""

import sys

from recbole_hns.cli import main

if __name__ == "__main__":
    sys.exit(main(["run", *sys.argv[1:]]))
