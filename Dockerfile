# Training and serving on the CPU: docker build -t recbole-hns .
FROM python:3.11-slim

# PyTorch's default wheels bring CUDA, several GB; its own index has those for the CPU
RUN pip install --no-cache-dir --index-url https://download.pytorch.org/whl/cpu "torch>=2.6,<2.14"

# dependencies are in a layer of their own only as far as they are big: the rest comes with the package
COPY pyproject.toml README.md LICENSE /src/
COPY recbole_hns /src/recbole_hns
COPY properties /src/properties
RUN pip install --no-cache-dir /src && rm -rf /src

# the data sets are read and the results written where the container is started, not as root
RUN useradd --create-home hns && mkdir /work && chown hns /work
USER hns
# whoever runs it, by --user too, has a home that can be written to
ENV HOME=/tmp
WORKDIR /work
VOLUME /work

ENTRYPOINT ["recbole-hns"]
CMD ["--help"]
