# shows: a ring of a join, a lock and a join over three threads
# verdict: deadlock
# plain: hang
# report: "boss" @boss_holds @boss_joins "foreman" @foreman_joins "hand" @hand_waits
# expect: main is done
# exit: 0
import threading

tools = threading.RLock()
tools_taken = threading.Event()


def be_boss():
    with tools:  # @boss_holds
        tools_taken.set()
        foreman.join()  # @boss_joins


def be_foreman():
    hand.join()  # @foreman_joins


def be_hand():
    tools_taken.wait()
    with tools:  # @hand_waits
        print("hand has the tools")


hand = threading.Thread(target=be_hand, name="hand")
foreman = threading.Thread(target=be_foreman, name="foreman")
boss = threading.Thread(target=be_boss, name="boss")
for t in (hand, foreman, boss):
    t.start()
for t in (hand, foreman, boss):
    t.join()
print("main is done")
