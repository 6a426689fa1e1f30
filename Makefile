# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
#
# Each target does what is missing of the set-up it needs, Debian packages included. `make clean` starts
# the build over, `make distclean` everything.

PYTHON ?= python3
VENV := .venv
MADE := $(VENV)/made
# cpu, cuda or system (toolchain/install_torch.sh); once installed it stays until another is asked for
INSTALLED_TORCH := $(shell cat $(MADE)/torch 2> /dev/null)
NECK_TURNS ?= 1000000
TORCH ?= $(or $(INSTALLED_TORCH),cpu)
PIP_LISTS := $(addprefix toolchain/,constraints.txt core.txt ros.txt dev.txt)
SOURCES := $(shell find timar_ros msg launch config -type f -not -name '*.pyc')

# groups of toolchain/debian.txt
PACKAGES := build $(if $(filter setup,$(MAKECMDGOALS)),sound) $(if $(filter test,$(MAKECMDGOALS)),tests)

SHELL := /bin/bash
.SHELLFLAGS := -eo pipefail -c
.DELETE_ON_ERROR:
.PHONY: help machine setup demo test check check-oldest bench fuzz-neck bench-faults clean distclean FORCE

help:
	@echo 'make setup    virtual environment, ROS 2 and torch in it, and our package built'
	@echo 'make demo     two voices in, head motion out: demo_out/ (USER=u.wav AGENT=a.wav your own)'
	@echo 'make test     every test, through colcon'
	@echo 'make check    format, lint and the fast tests'
	@echo 'make check-oldest   the fast tests with the NumPy and SciPy of the oldest system that we support'
	@echo 'make bench    what the model costs on this machine (ARGS="--preset mini ...")'
	@echo 'make fuzz-neck   a million hostile turns through the necks of all robots: is a limit broken?'
	@echo '              (NECK_TURNS=10000 for fewer)'
	@echo 'make bench-faults   hours of conversation full of faults: docs/faults.md'
	@echo 'make clean    remove what was built; make distclean: the virtual environment too'

setup: install/.built
	@echo '== ready: source env.sh'

# in one call for all targets that were asked for: one list, one password
machine:
	@toolchain/prepare_machine.sh $(PYTHON) $(PACKAGES)

# one that an interrupted or failed run has left has no pip
$(MADE)/venv: | machine
	@echo '== virtual environment: $(VENV)'
	@$(VENV)/bin/python -m pip --version > /dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@mkdir -p $(MADE) && touch $@

$(MADE)/torch: $(MADE)/venv toolchain/install_torch.sh $(if $(filter $(INSTALLED_TORCH),$(TORCH)),,FORCE)
	@echo '== torch ($(TORCH)), a minute or two'
	@toolchain/install_torch.sh $(TORCH)
	@echo $(TORCH) > $@

$(MADE)/packages: $(MADE)/torch $(PIP_LISTS) toolchain/relocate_wheels.py
	@echo '== ROS 2 and Python packages, a minute or two'
	@toolchain/pip.sh install --constraint toolchain/constraints.txt --requirement toolchain/core.txt \
	  --requirement toolchain/ros.txt --requirement toolchain/dev.txt
	@$(VENV)/bin/python toolchain/relocate_wheels.py
	@touch $@

install/.built: $(MADE)/packages CMakeLists.txt package.xml $(SOURCES) | machine
	@echo '== colcon build'
	@source ./env.sh && colcon --log-level error build  # it warns of a .venv that is no workspace
	@touch $@

demo: install/.built
	@echo '== two voices through the real nodes; demo_out/ takes what comes out'
	@source ./env.sh && export ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST && \
	  python -m timar_ros.nodes.demo --out demo_out $(DEMO_VOICES) $(ARGS)

# USER is also the login name's variable: only one on the command line is a voice
ifeq ($(origin USER),command line)
DEMO_VOICES += --user '$(USER)'
endif
ifeq ($(origin AGENT),command line)
DEMO_VOICES += --agent '$(AGENT)'
endif

test: install/.built
	@echo '== every test, through colcon'
	@rm -rf build/timar_ros/test_results
	@source ./env.sh && \
	  colcon test --event-handlers console_direct+ --return-code-on-test-failure && failed= || failed=1; \
	  colcon test-result --verbose --test-result-base build/timar_ros/test_results | awk '{ print } \
	    /^Summary:/ { print $$2-$$4-$$6-$$8 " passed, " $$4+$$6 " failed, " $$8 " skipped" }' && \
	  test -z "$$failed"

check: install/.built
	@echo '== ruff'
	@$(VENV)/bin/ruff format --check && $(VENV)/bin/ruff check
	@echo '== the fast tests'
	@source ./env.sh && OMP_NUM_THREADS=1 python -m pytest -q --numprocesses auto --dist loadfile \
	  test/test_layers.py test/unit test/streaming

# Laid over those of .venv
$(MADE)/oldest: $(MADE)/packages toolchain/oldest.txt
	@echo '== NumPy and SciPy as on Ubuntu 22.04, or the oldest for this Python'
	@rm -rf $(VENV)/oldest
	@toolchain/pip.sh install --no-deps --only-binary :all: --target $(VENV)/oldest --requirement toolchain/oldest.txt
	@touch $@

check-oldest: install/.built $(MADE)/oldest
	@source ./env.sh && export PYTHONPATH="$$PWD/$(VENV)/oldest:$$PYTHONPATH" OMP_NUM_THREADS=1 && \
	  python -c 'import numpy, scipy; print("== the fast tests with NumPy", numpy.__version__, "and SciPy", scipy.__version__)' && \
	  python -m pytest -q --numprocesses auto --dist loadfile test/unit test/streaming

bench: install/.built
	@source ./env.sh && python -m timar_ros.benchmark $(ARGS)

fuzz-neck: install/.built
	@echo '== $(NECK_TURNS) hostile turns through the necks, on all cores (an hour for a million on two)'
	@source ./env.sh && OMP_NUM_THREADS=1 python test/fuzz_neck.py --turns $(NECK_TURNS)

# Long: hours of conversation at accelerated time. Stopped, it goes on from where it was.
bench-faults: install/.built
	@source ./env.sh && python test/faults/bench.py --out docs/faults.md $(ARGS)

clean:
	rm -rf build install log

distclean: clean
	rm -rf $(VENV)
