# Sourced by the scripts beside it: makes `.venv` where there is none and installs what a requirements file names.
cd "$(dirname "${BASH_SOURCE[0]}")/.."

prepare_environment() {
  local requirements=$1 stamp=.venv/.installed-$(basename "$1" .txt)
  # An attempt that failed, as without Debian's python3-venv, leaves a Python without pip.
  if [ ! -x .venv/bin/pip ]; then
    "${PYTHON:-python3}" -m venv .venv
  fi
  if [ ! -e "$stamp" ] || [ -n "$(find requirements*.txt -newer "$stamp")" ]; then
    echo "installing $requirements into .venv (a few minutes the first time)"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -r "$requirements"
    touch "$stamp"
  fi
  # Training frees and asks for the same large tensors at every step; keeping the memory saves a CPU about a sixth.
  export MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=4000000000 MALLOC_TOP_PAD_=268435456
}
