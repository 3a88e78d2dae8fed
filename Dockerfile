# The course in a container, for the CPU by default:  docker compose up lab
# For NVIDIA:  docker compose -f compose.yaml -f compose.gpu.yaml up lab
FROM python:3.12.12-slim-bookworm

# Where torch comes from: its CPU wheels are ten times smaller than the default ones.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

RUN groupadd --gid 1000 student && useradd --create-home --uid 1000 --gid 1000 student
WORKDIR /course
# What the course needs, before the course itself: an edited line of code then fetches nothing again.
COPY pyproject.toml constraints.txt ./
RUN python -c "import tomllib; it = tomllib.load(open('pyproject.toml', 'rb')); needs = it['build-system']['requires'] + it['project']['dependencies'] + it['project']['optional-dependencies']['lab']; print(*needs, sep='\n')" > needs.txt \
 && pip install --no-cache-dir --disable-pip-version-check --extra-index-url "${TORCH_INDEX}" -c constraints.txt -r needs.txt \
 && rm needs.txt
COPY --chown=1000:1000 README.md ./
COPY --chown=1000:1000 stn_utils stn_utils
RUN pip install --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation -e .
COPY --chown=1000:1000 notebooks notebooks
COPY --chown=1000:1000 assets assets
# Compose may ask for any user, so all may write here. The cache must be there: a volume on a folder that the image lacks
# belongs to root.
RUN mkdir -p runs /home/student/.cache && chmod 1777 /course runs /home/student /home/student/.cache
# HOME: a user without an account would get /. STN_DATA: for a mount; where nothing is mounted, the cache serves.
ENV HOME=/home/student XDG_CACHE_HOME=/home/student/.cache MPLCONFIGDIR=/tmp/matplotlib STN_DATA=/data
USER 1000:1000
EXPOSE 8888
ENTRYPOINT ["stn"]
CMD ["--help"]
