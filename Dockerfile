# timar_ros on ROS 2 Jazzy, without a GPU. Its command is the demo:
#     docker build -t timar_ros . && docker run --rm -p 8390:8390 -v "$PWD/demo_out:/demo_out" timar_ros
# A Jetson: Dockerfile.jetson.
FROM ros:jazzy

ENV DEBIAN_FRONTEND=noninteractive PIP_BREAK_SYSTEM_PACKAGES=1
SHELL ["/bin/bash", "-eo", "pipefail", "-c"]

# What changes seldom comes first: an edit of our code keeps these layers.
WORKDIR /workspace
COPY package.xml src/timar_ros/
RUN apt-get update && apt-get install -y --no-install-recommends python3-pip \
    && rosdep update --rosdistro jazzy \
    && rosdep install --from-paths src --ignore-src -y \
    && rm -rf /var/lib/apt/lists/*
COPY toolchain/robot.txt src/timar_ros/toolchain/
RUN pip install --no-cache-dir -r src/timar_ros/toolchain/robot.txt \
    && pip install --no-cache-dir --no-deps silero-vad \
    && pip install --no-cache-dir torch --index-url https://download.pytorch.org/whl/cpu

COPY . src/timar_ros
RUN source /opt/ros/jazzy/setup.bash && colcon build --packages-select timar_ros

# The image's own entry point sources ROS; this shell adds our package.
CMD ["bash", "-c", "source install/setup.bash && exec python3 -m timar_ros.nodes.demo --out /demo_out"]
